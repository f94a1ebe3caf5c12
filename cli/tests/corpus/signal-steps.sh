#!/bin/bash
#SBATCH --time=1:00
#SBATCH --signal=USR1@50
#SBATCH --output=signal.txt

srun sh -c 'trap "echo the step saves; exit 0" USR1; sleep 100 & wait'
echo "the step ended with $?"
