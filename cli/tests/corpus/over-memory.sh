#!/bin/bash
#SBATCH --mem=20M
#SBATCH --output=big.txt
echo before
# a string of 100 MB
x=$(head -c 100000000 /dev/zero | tr '\0' x)
sleep 100
echo after
