#!/usr/bin/env bash
#SBATCH --job-name=bert
#SBATCH --partition=gpu-v100
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=2        # one rank for each gpu
#SBATCH --cpus-per-task=3
#SBATCH --hint=nomultithread       # physical cores only
#SBATCH --gres=gpu:v100:2
#SBATCH --time 20:00:00
#SBATCH --output=%x-%j.out
#SBATCH --qos=qos_gpu-t3

export MASTER_ADDR=$(echo "$SLURM_JOB_NODELIST" | cut -d, -f1)
export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK
echo "nodes $SLURM_NNODES, gpus $SLURM_GPUS_ON_NODE, ranks on each $SLURM_NTASKS_PER_NODE, master $MASTER_ADDR"
srun bash -c 'echo "rank $SLURM_PROCID/$SLURM_NTASKS local $SLURM_LOCALID node $SLURM_NODEID threads $OMP_NUM_THREADS"' | sort
