#!/bin/sh -e
#SBATCH -o sh.txt
echo $-
false
echo never
