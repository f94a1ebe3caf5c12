#!/bin/bash
#SBATCH --job-name=sweep
#SBATCH --array=0-5%4
#SBATCH --time=00:05:00
#SBATCH --output=sweep/%a.txt

rates=(0.1 0.01 0.001)
seeds=(1 2)
rate=${rates[$((SLURM_ARRAY_TASK_ID % 3))]}
seed=${seeds[$((SLURM_ARRAY_TASK_ID / 3))]}
echo "rate=$rate seed=$seed"
