#!/bin/bash
#SBATCH --output=log.txt
#SBATCH --open-mode=append
echo "one more line"
