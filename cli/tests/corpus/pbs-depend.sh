#!/bin/bash
#PBS -N after
#PBS -o log
#PBS -j oe
#PBS -v COLOUR=red
echo "$PBS_JOBNAME $COLOUR $1"
