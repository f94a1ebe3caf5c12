#!/bin/bash
#SBATCH -J names
#SBATCH -o "%x_%8j_%u_%N_%n_%s_%t_%J_%%_%z.out"
#SBATCH -e %A_%a.err
echo out
echo err >&2
