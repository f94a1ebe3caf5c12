#!/bin/bash
#SBATCH --nodes=1 --cpus-per-task=3
#SBATCH --output=steps.log
echo "given: ${SLURM_NTASKS-nothing}"
srun --ntasks-per-node=3 sh -c 'echo "rank $SLURM_PROCID of $SLURM_NTASKS ($SLURM_NPROCS)"' | sort
srun sh -c 'echo "alone of $SLURM_STEP_NUM_TASKS on $SLURM_STEP_NUM_NODES"'
srun --chdir=/ --export=ALL,COLOUR=red sh -c 'echo "$(pwd) $COLOUR"'
echo "typed" | srun -n 2 sh -c 'echo "$SLURM_PROCID reads: $(cat)"' | sort
srun --input=words.txt -n 2 --label cat | sort
srun --kill-on-bad-exit=1 -n 2 sh -c '[ $SLURM_PROCID = 1 ] && exit 9; sleep 1000' 2> killed.txt
echo "killed: $?"
srun no-such-program 2> /dev/null
echo "not found: $?"
srun -n 2 -o both.txt --open-mode=append sh -c 'echo "rank $SLURM_PROCID"'
