#!/bin/bash
#SBATCH --array=999999-1000002
#SBATCH --output=/dev/null
echo "$SLURM_ARRAY_TASK_ID" > "element-$SLURM_ARRAY_TASK_ID"
