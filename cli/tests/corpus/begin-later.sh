#!/bin/bash
#SBATCH --begin=now+1
#SBATCH --output=late.txt
[ "$(date +%s)" -gt "$1" ] && echo later
