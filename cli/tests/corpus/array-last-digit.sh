#!/bin/bash
#SBATCH --array=9-11
#SBATCH --output=%b/%4a.txt
echo "$SLURM_ARRAY_TASK_ID"
