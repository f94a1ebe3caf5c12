#!/bin/bash
#SBATCH --job-name=only-one-of-this-name
#SBATCH --dependency=singleton
#SBATCH --output=log --open-mode=append
echo "begin $1"
echo "end $1"
