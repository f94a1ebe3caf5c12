#!/bin/bash
#SBATCH --mem=512
#SBATCH --output=%x.txt
echo "${SLURM_MEM_PER_NODE-} ${SLURM_MEM_PER_CPU-} ${SLURM_MEM_PER_GPU-}"
