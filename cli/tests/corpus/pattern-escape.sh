#!/bin/bash
#SBATCH --job-name=escaped
#SBATCH --output='\%x-%j.txt'
echo escaped
