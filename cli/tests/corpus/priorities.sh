#!/bin/bash
#SBATCH --gpus=4
#SBATCH --output=order --open-mode=append
echo "$SLURM_JOB_NAME"
