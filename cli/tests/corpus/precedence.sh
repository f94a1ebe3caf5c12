#!/bin/bash
#SBATCH --job-name=script
#SBATCH --account=script
#SBATCH --comment=script
#SBATCH --output=%x.txt
echo "$SLURM_JOB_NAME $SLURM_JOB_ACCOUNT"
