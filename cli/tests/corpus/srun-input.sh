#!/bin/bash
#SBATCH --output=read.txt --cpus-per-task=3
seq 100000 | srun -n 3 sh -c 'cksum' | sort -u
printf 'a\nb\n' | srun -n 3 --input=all sh -c '[ $SLURM_PROCID = 1 ] || echo "$SLURM_PROCID: $(paste -s -d,)"' | sort
echo typed | srun -n 3 --input=1 sh -c 'echo "$SLURM_PROCID has $(cat)"' | sort
echo typed | srun -n 2 --input=none wc -c
echo typed | srun cat
srun -n 2 wc -c
