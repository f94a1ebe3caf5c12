#!/bin/bash
#SBATCH --requeue
#SBATCH --output=requeue.log --open-mode=append

echo "run ${SLURM_RESTART_COUNT:-0} of job $SLURM_JOB_ID"
if ((${SLURM_RESTART_COUNT:-0} < 2)); then
    scontrol requeue "$SLURM_JOB_ID"
    sleep 1000
fi
echo "done"
