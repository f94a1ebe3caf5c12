#!/bin/bash
#SBATCH --output=taken/%j.out
touch ran
