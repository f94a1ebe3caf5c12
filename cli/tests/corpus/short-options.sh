#!/bin/bash
#SBATCH -J heat          # name
#SBATCH -A lab42         # account
#SBATCH -p gpu,cpu       # any of these
#SBATCH -q debug         # qos
#SBATCH -t 0-01:30       # an hour and a half
#SBATCH -N 1
#SBATCH -n 3
#SBATCH -c 2
#SBATCH -C avx2
#SBATCH -L matlab:1
#SBATCH -o heat.%j.log
#SBATCH -e heat.%j.err
echo "$SLURM_JOB_NAME on $SLURM_JOB_NUM_NODES node with $SLURM_NTASKS tasks of $SLURM_CPUS_PER_TASK cpus"
echo "$SLURM_JOB_ACCOUNT $SLURM_JOB_PARTITION $SLURM_JOB_QOS" >&2
