#!/bin/bash
#SBATCH --array=1-4%1
#SBATCH --output=log.txt --open-mode=append
echo "begin"
echo "end"
