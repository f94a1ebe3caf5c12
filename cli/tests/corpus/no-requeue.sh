#!/bin/bash
#SBATCH --no-requeue
#SBATCH --output=no-requeue.log
scontrol show job "$SLURM_JOB_ID" | grep -o 'Requeue=[01]'
