#!/bin/bash
#SBATCH -a 0-8:4
echo "element $SLURM_ARRAY_TASK_ID, step $SLURM_ARRAY_TASK_STEP"
