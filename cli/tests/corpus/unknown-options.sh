#!/bin/bash
#SBATCH --frobnicate=7
#SBATCH --new-in-slurm-99 42 -n 2
#SBATCH -y
#SBATCH --job-name=known
#SBATCH -o %x.txt
echo "$SLURM_NTASKS"
