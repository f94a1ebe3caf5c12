#!/bin/bash
#SBATCH --array=3,1,5-7
#SBATCH --output=/dev/null
exit "$SLURM_ARRAY_TASK_ID"
