#!/bin/bash
#SBATCH --time=30
#SBATCH --output=/dev/null
true
