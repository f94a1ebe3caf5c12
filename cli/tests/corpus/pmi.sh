#!/bin/bash
#SBATCH --ntasks=3
#SBATCH --output=pmi.txt
srun --mpi=pmi2 sh -c 'echo "$PMI_RANK of $PMI_SIZE, ${PMI_FD:+connected}"' | sort
