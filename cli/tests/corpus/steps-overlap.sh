#!/bin/bash
#SBATCH --ntasks=2
#SBATCH --output=overlap.txt

wait_for() { until [ -s "$1" ]; do sleep 0.05; done; }
srun sh -c 'echo >> ready; until [ -e end ]; do sleep 0.05; done' &
wait_for ready
# a step has all cpus to itself; who looks after it shares them
srun --overlap -n 1 echo "beside it"
SLURM_OVERLAP=1 srun -n 1 echo "beside it, too"
mpirun -n 3 echo "nor does mpirun wait"
srun --immediate -n 1 echo "not now"
echo "code $?"
SLURM_IMMEDIATE=0 srun -n 1 echo "not now"
echo "code $?"
srun -n 1 echo "afterwards" 2> waited.txt &
wait_for waited.txt
# a warning for ranks does not end one that waits
kill -USR1 $!
: > end
wait
rm ready end
