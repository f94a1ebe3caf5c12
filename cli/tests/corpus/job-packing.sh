#!/bin/bash
#SBATCH --ntasks=4
#SBATCH --cpus-per-task=1
#SBATCH --output=packing.log

# as many small programs beside each other as there are tasks
for i in 1 2 3 4; do
    srun --ntasks=1 --exclusive --exact --output="part-$i.txt" ./work.sh "$i" &
done
wait
cat part-*.txt
