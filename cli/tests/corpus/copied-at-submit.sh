#!/bin/bash
#SBATCH --hold
#SBATCH --output=what.txt
echo "as it was submitted, with $VERSION"
