#!/bin/bash
#SBATCH --output=held.txt
echo went
