#!/bin/bash
#SBATCH --nodes=1
#SBATCH --tasks-per-node=2
#SBATCH --workdir=run
#SBATCH --output=old.txt
echo "$SLURM_NTASKS in ${PWD##*/}"
srun --tasks-per-node=2 sh -c 'echo "rank $SLURM_PROCID"' | sort
