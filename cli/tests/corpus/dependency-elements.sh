#!/bin/bash
#SBATCH --array=1-3
#SBATCH --output=/dev/null
[ "$1" = first ] && touch "done-$SLURM_ARRAY_TASK_ID"
[ -e "done-$SLURM_ARRAY_TASK_ID" ] && echo "$1" >> "log-$SLURM_ARRAY_TASK_ID"
