#!/bin/bash
#SBATCH --time=5
#SBATCH --output=%x.txt
echo "from a pipe: $SLURM_JOB_NAME"
