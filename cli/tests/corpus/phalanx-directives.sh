#!/bin/bash
#SBATCH --job-name=anywhere
#SBATCH --time=10
#PHALANX --job-name=here --ntasks=2
#SBATCH --output=%x.txt
echo "$SLURM_JOB_NAME $SLURM_NTASKS"
