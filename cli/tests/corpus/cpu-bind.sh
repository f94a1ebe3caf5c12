#!/bin/bash
#SBATCH --output=bind.txt
tab=$(printf '\t')
allowed() { sed -n "s/^Cpus_allowed_list:$tab//p" /proc/self/status; }
export -f allowed
export tab
first=$(allowed | sed 's/[-,].*//')
check='[ "$(allowed)" = "$0" ] && echo "task $SLURM_PROCID runs on one cpu"'

srun -n 2 -O --cpu-bind=map_cpu:$first bash -c "$check" "$first" | sort
SLURM_CPU_BIND=quiet,map_cpu:$first srun bash -c "$check" "$first"
srun --cpu_bind=mask_cpu:$(printf '0x%x' $((1 << first))) bash -c "$check" "$first"
srun --cpu-bind=none sh -c 'echo "$SLURM_CPU_BIND $SLURM_CPU_BIND_VERBOSE $SLURM_CPU_BIND_TYPE"'
srun --cpu-bind=verbose,map_cpu:$first sh -c \
    'echo "$SLURM_CPU_BIND_VERBOSE $SLURM_CPU_BIND_TYPE"; [ "$SLURM_CPU_BIND" = "verbose,mask_cpu:$SLURM_CPU_BIND_LIST" ] && echo same' 2> told.txt
srun --cpu-bind=everywhere true
echo "code $?"
