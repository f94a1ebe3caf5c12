#!/bin/bash
#SBATCH --output=%x.txt
echo ran
