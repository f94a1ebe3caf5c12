#!/usr/bin/env bash

#SBATCH -J dask-worker
#SBATCH -p regular
#SBATCH -A lab
#SBATCH -n 1
#SBATCH --cpus-per-task=2
#SBATCH --mem=477M
#SBATCH -t 00:30:00
#SBATCH -e dask-%J.err
#SBATCH -o dask-%J.out

echo "worker of ${JOB_ID:-$SLURM_JOB_ID} with $SLURM_CPUS_PER_TASK threads"
