#!/bin/bash
#SBATCH --begin=2099-01-31T16:30
#SBATCH --output=never.txt
echo never
