#!/bin/bash
#SBATCH --ntasks=4
#SBATCH --output=multi.txt
srun --multi-prog --label programs.conf | sort
srun -n 5 --multi-prog short.conf
echo "code $?"
