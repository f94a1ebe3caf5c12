#!/bin/bash
#SBATCH --job-name=container
#SBATCH --ntasks=2
#SBATCH --mem-per-cpu=50M
#SBATCH --output=%x.txt
module purge 2> /dev/null || true
export SINGULARITY_BIND="$PWD"
export PATH=$PWD/bin:$PATH
srun singularity exec --nv image.sif python train.py | sort
