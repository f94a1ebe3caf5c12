#!/bin/bash
#SBATCH --exclusive=user
#SBATCH --gres=nvme:100
#SBATCH --cpus-per-gpu=1
#SBATCH --ntasks-per-gpu=1
#SBATCH --export-file=x
#SBATCH --output=ran.txt
echo "$SLURM_CPUS_ON_NODE"
