#!/bin/bash
#SBATCH --ntasks=2
#SBATCH --output=hosts.txt

nodes=( $(scontrol show hostnames "$SLURM_JOB_NODELIST") )
export MASTER_ADDR=${nodes[0]}
export MASTER_PORT=$(expr 10000 + $(echo -n "$SLURM_JOBID" | tail -c 4))
echo "${#nodes[@]} node, master $MASTER_ADDR"
[ "$MASTER_PORT" -ge 10000 ] && echo "a port"
scontrol show hostnames 'n[001-003,7],gpu1'
scontrol show hostlist n1,n2,n3,n7
