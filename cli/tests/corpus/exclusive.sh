#!/bin/bash
#SBATCH --exclusive
#SBATCH --output=alone.txt
echo "$SLURM_CPUS_ON_NODE"
