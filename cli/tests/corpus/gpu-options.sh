#!/bin/bash
#SBATCH --output=%x.txt
echo "gpus ${SLURM_GPUS-none} per node ${SLURM_GPUS_PER_NODE-none} per task ${SLURM_GPUS_PER_TASK-none} here ${SLURM_GPUS_ON_NODE-none} ids $(echo "$SLURM_JOB_GPUS" | tr , " " | wc -w)"
