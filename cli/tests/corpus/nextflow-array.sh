#!/bin/bash
#SBATCH --array 0-2
#SBATCH -J nf-QC_(1)
#SBATCH -o /dev/null
#SBATCH --no-requeue
#SBATCH -c 1
#SBATCH -t 00:10:00
declare -a array=( task/00 task/01 task/02 )
export nxf_array_task_dir=${array[SLURM_ARRAY_TASK_ID]}
bash $nxf_array_task_dir/.command.run 2>&1 > $nxf_array_task_dir/.command.log
