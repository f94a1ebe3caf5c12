#!/bin/bash
#SBATCH --ntasks=2 --output=nodes.txt
srun --nodes=1 --ntasks=2 --nodelist=$SLURMD_NODENAME --exclude=nowhere --relative=0 --distribution=cyclic \
    sh -c 'echo $SLURM_PROCID on $SLURM_NODEID of $SLURM_STEP_NUM_NODES' | sort
export SLURM_DISTRIBUTION=block SLURM_JOB_NUM_NODES=2
srun --ntasks=1 echo done
