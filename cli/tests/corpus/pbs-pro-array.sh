#!/bin/sh
#PBS -N pro
#PBS -J 1-3
#PBS -l select=1:ncpus=2:mpiprocs=2:mem=100mb
#PBS -l walltime=10:00
#PBS -o pro.^array_index^.out
#PBS -e pro.^array_index^.err
#PBS -r n
#PBS -h
cd "$PBS_O_WORKDIR"
echo "element $PBS_ARRAY_INDEX of $SLURM_ARRAY_TASK_COUNT with $NCPUS"
