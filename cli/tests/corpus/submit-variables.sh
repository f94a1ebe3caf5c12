#!/bin/bash
#SBATCH --job-name=vars
#SBATCH --nodes=1
#SBATCH --ntasks=2
#SBATCH --cpus-per-task=2
#SBATCH --output=vars.txt
echo "dir $SLURM_SUBMIT_DIR"
echo "host $SLURM_SUBMIT_HOST"
echo "cluster $SLURM_CLUSTER_NAME"
echo "node $SLURMD_NODENAME, list $SLURM_NODELIST, topology $SLURM_TOPOLOGY_ADDR"
echo "user $SLURM_JOB_USER ($SLURM_JOB_UID, $SLURM_JOB_GID)"
echo "cpus $SLURM_CPUS_ON_NODE, $SLURM_JOB_CPUS_PER_NODE"
echo "restarts ${SLURM_RESTART_COUNT:-0}"
echo "rank $SLURM_PROCID $SLURM_LOCALID $SLURM_NODEID"
echo "$ENVIRONMENT, partition $SLURM_JOB_PARTITION"
test "$SLURM_TASK_PID" = $$ && echo "process $$" | tr -d 0-9
