#!/bin/bash
#SBATCH --ntasks=2 --cpus-per-task=2
#SBATCH --output=ran.txt

show='echo "rank $SLURM_PROCID of $SLURM_NTASKS ($SLURM_STEP_TASKS_PER_NODE), step $SLURM_STEP_ID on $SLURM_STEP_NODELIST, $SLURM_CPUS_PER_TASK cpus"'
srun sh -c "$show" | sort
SLURM_NTASKS=1 SRUN_CPUS_PER_TASK=1 srun sh -c "$show"
(unset SLURM_NTASKS; SLURM_CPUS_PER_TASK=3 SLURM_NTASKS_PER_NODE=1 srun sh -c "$show")
SLURM_LABELIO=1 SLURM_UNBUFFEREDIO=1 SLURM_STDINMODE=words.txt srun cat | sort
SLURM_STDOUTMODE=out-%t.txt SLURM_STDERRMODE=err-%t.txt SLURM_OPEN_MODE=append srun sh -c 'echo out; echo err >&2'
SLURM_WORKING_DIR=/ SRUN_EXPORT_ENV=ALL,COLOUR=red srun -n 1 sh -c 'echo "$(pwd) $COLOUR"'
SLURM_EXPORT_ENV=ALL,COLOUR=blue srun -n 1 sh -c 'echo $COLOUR'
SLURM_KILL_BAD_EXIT=1 srun sh -c '[ $SLURM_PROCID = 1 ] && exit 3; sleep 1000' 2> /dev/null
echo "killed: $?"
srun sh -c 'echo "all: $SLURM_GTIDS"' | sort -u
echo "all: $SLURM_GTIDS"
srun sh -c 'test $SLURM_TASK_PID = $$ && echo "its own number"'
