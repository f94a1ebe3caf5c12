#!/bin/bash
#SBATCH --time=0:3
#SBATCH --signal=USR1@2
#SBATCH --output=signal.txt

srun sh -c 'trap "echo the step saves; exit 0" USR1; sleep 100 & wait'
echo "the step ended with $?"
