#!/bin/bash
#SBATCH --input=numbers.txt
#SBATCH --output=sum.txt
total=0
while read -r number; do total=$((total + number)); done
echo "$total"
