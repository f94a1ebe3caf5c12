#!/bin/bash
#SBATCH --ntasks=2
#SBATCH --output=farm.txt

# many small programs, as many at a time as there are cpus
mkdir running
for i in $(seq 12); do
    srun --exact --quiet -n 1 -c 1 ./task.sh "$i" &
done
wait
sort -n finished
[ "$(sort -n counts | tail -n 1)" -le 2 ] && echo "never more than two"
rm -r running counts finished

show='echo "$0: $SLURM_CPUS_ON_NODE"'
srun -n 1 sh -c "$show" usual
srun --exact -n 1 sh -c "$show" exact
SLURM_EXACT=1 srun -n 1 sh -c "$show" variable
srun --exclusive -n 1 sh -c "$show" exclusive
SLURM_EXCLUSIVE= srun -n 1 sh -c "$show" variable
srun --exact --whole -n 1 sh -c "$show" whole
srun -n 1 -c 2 sh -c "$show" two
SRUN_CPUS_PER_TASK=1 srun -n 1 sh -c "$show" one
srun --exact -n 1 srun --exact -n 1 sh -c "$show" beside
srun -n 1 srun -n 1 sh -c "$show" inside
srun -n 3 true
srun -O -n 3 true
SLURM_OVERCOMMIT=1 srun -n 3 true
