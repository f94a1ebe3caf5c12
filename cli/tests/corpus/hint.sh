#!/bin/bash
#SBATCH --output=%x.txt
nproc
