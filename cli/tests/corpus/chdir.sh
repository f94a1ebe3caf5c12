#!/bin/bash
#SBATCH --chdir=run
#SBATCH --output=where.txt
pwd
echo "$SLURM_SUBMIT_DIR"
ls
