#!/bin/bash
#SBATCH --output=read.txt
read -r line && echo "somebody types" || echo "nothing to read"
cat
