#!/usr/bin/env python3
#SBATCH --job-name=snake
#SBATCH --ntasks=1          # a comment
#SBATCH --output=%x.txt
import os
import sys

print(os.environ["SLURM_JOB_NAME"], sys.argv[1:], len(sys.stdin.read()))
