#!/bin/bash
#SBATCH -o args.txt
echo "$# arguments"
for word in "$@"; do echo "[$word]"; done
