#!/bin/bash -l

#SBATCH --job-name=first
# a remark, and a blank line:

##SBATCH --job-name=commented-out
# SBATCH --job-name=not-a-directive
#SBATCH --output=%x.txt

echo "name $SLURM_JOB_NAME"
#SBATCH --job-name=too-late
#SBATCH --output=too-late.txt
