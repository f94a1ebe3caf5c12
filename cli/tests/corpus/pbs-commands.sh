#!/bin/bash
#PBS -N queued
#PBS -l nodes=1:ppn=1,walltime=00:05:00
#PBS -j oe
#PBS -o queued.log
cd $PBS_O_WORKDIR
echo "ran as $PBS_JOBNAME"
