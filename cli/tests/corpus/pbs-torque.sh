#!/bin/bash
#PBS -N torque
#PBS -l nodes=1:ppn=2,walltime=00:10:00
#PBS -l mem=100mb
#PBS -q batch
#PBS -A lab
#PBS -j oe
#PBS -o torque.log
#PBS -m ae -M ada@example.org
#PBS -V

cd $PBS_O_WORKDIR
echo "$PBS_JOBNAME $PBS_JOBID in $PBS_QUEUE with $PBS_NP cpus ($PBS_NUM_NODES x $PBS_NUM_PPN) for $PBS_O_LOGNAME"
wc -l < $PBS_NODEFILE
echo "an error" >&2
pwd
