#!/bin/bash
#SBATCH -o /dev/null
exit 7
