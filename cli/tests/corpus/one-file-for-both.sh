#!/bin/bash
#SBATCH -o both.txt
#SBATCH -e both.txt
echo out
echo err >&2
echo out again
