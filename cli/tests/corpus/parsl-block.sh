#!/bin/bash

#SBATCH --job-name=parsl.block-0
#SBATCH --output=runinfo/parsl.block-0.stdout
#SBATCH --error=runinfo/parsl.block-0.stderr
#SBATCH --nodes=1
#SBATCH --time=00:10:00
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive

export CORES=$SLURM_CPUS_ON_NODE
export NODES=$SLURM_JOB_NUM_NODES
[[ "1" == "1" ]] && echo "Found cores : $CORES, nodes : $NODES"
WORKERCOUNT=1
for COUNT in $(seq 1 1 $WORKERCOUNT); do
    echo "Launching worker: $COUNT"
    ./process_worker_pool.sh &
    PIDS="$PIDS $!"
done
wait $PIDS
echo "All workers done"
