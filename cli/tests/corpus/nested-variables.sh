#!/bin/bash
#SBATCH --job-name=outer
#SBATCH --array=4
#SBATCH --ntasks=2
#SBATCH --output=outer.txt
sbatch --wait -J inner -o inner.txt --wrap 'echo "$SLURM_JOB_NAME ${SLURM_ARRAY_TASK_ID-no array} ${SLURM_NTASKS-no tasks}"' | cut -c1-19
