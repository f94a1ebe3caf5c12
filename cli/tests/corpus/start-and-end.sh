#!/bin/bash
#SBATCH --output=%x.txt
now=$(date +%s)
[ "$SLURM_JOB_START_TIME" -le "$now" ] && [ "$SLURM_JOB_START_TIME" -gt $((now - 600)) ] && echo "began"
echo "ends: ${SLURM_JOB_END_TIME:+$((SLURM_JOB_END_TIME - SLURM_JOB_START_TIME)) s later}"
echo "waited for: $SLURM_JOB_DEPENDENCY"
