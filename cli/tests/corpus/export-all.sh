#!/bin/bash
#SBATCH --output=%x.txt
echo "${DATA_SET-unset} ${SEED-unset} ${HOME:+home}"
