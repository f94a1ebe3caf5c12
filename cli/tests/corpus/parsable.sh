#!/bin/bash
#SBATCH --parsable
#SBATCH --output=/dev/null
true
