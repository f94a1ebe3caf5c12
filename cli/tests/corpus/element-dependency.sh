#!/bin/bash
#SBATCH --array=0-2
#SBATCH --output=log --open-mode=append
[ "$SLURM_ARRAY_TASK_ID" = 1 ] || { echo "element $SLURM_ARRAY_TASK_ID fails"; exit 1; }
