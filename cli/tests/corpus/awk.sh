#!/usr/bin/awk -f
#SBATCH -o table.txt -i data.txt
{ sum += $2 }
END { print NR " lines, " sum }
