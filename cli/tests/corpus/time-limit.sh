#!/bin/bash
#SBATCH --time=0:10
#SBATCH --output=limit.txt
trap 'echo "told to end"; exit 5' TERM
sleep 100 & wait
