#!/bin/bash
#SBATCH --output=where.txt
#SBATCH --exclude=old[1-3],n7   # these are slow
echo "$SLURMD_NODENAME"
