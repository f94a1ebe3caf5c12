#!/bin/bash
#SBATCH -J mpi
#SBATCH -n 4
#SBATCH -o mpi.out

echo "job $SLURM_JOB_ID ($SLURM_JOBID) has $SLURM_NTASKS tasks, $SLURM_NPROCS processes, $SLURM_TASKS_PER_NODE on its node"
srun --mpi=pmi2 --cpu-bind=cores ./solver.sh | sort
srun -n 2 -c 2 ./solver.sh | sort
srun -l -n 2 ./solver.sh | sort
srun -n 3 --output=rank-%t.txt ./solver.sh
srun -n 3 --exact --overlap -u sh -c 'exit $SLURM_PROCID' 2> failed.txt
echo "the highest code is $?"
