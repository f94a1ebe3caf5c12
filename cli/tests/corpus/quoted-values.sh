#!/bin/bash
#SBATCH --job-name="water 300K"   # a name with a blank
#SBATCH --comment='it''s a # sign'
#SBATCH --output=out\ put.txt
#SBATCH --mail-user=$USER@example.org
echo "$SLURM_JOB_NAME"
