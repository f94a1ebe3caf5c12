#!/bin/bash
#SBATCH --output=out.txt
umask
ulimit -S -n
echo data > result
stat -c '%A %n' out.txt result
