#!/bin/bash
#SBATCH --output=%x.txt
trap 'echo "told to end"; exit 0' TERM
touch "began-$SLURM_JOB_NAME"
sleep 1000 &
wait
