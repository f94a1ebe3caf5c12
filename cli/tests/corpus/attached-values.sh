#!/bin/bash
#SBATCH -n4 -c1 -Jglued
#SBATCH --output glued.txt
#SBATCH	--open-mode=truncate
#SBATCH --time 5 --mem-per-cpu 100M
echo "$SLURM_JOB_NAME $SLURM_NTASKS $SLURM_CPUS_PER_TASK $SLURM_MEM_PER_CPU"
