#!/bin/bash
#PBS -N pbs-name
#PBS -l nodes=1:ppn=3
#SBATCH --job-name=slurm-name
#SBATCH --output=%x.txt
echo "$SLURM_JOB_NAME ${SLURM_NTASKS-none} ${PBS_JOBNAME-no pbs}"
