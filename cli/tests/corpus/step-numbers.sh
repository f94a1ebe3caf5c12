#!/bin/bash
#SBATCH --array=0-1 --ntasks=1
#SBATCH --output=ran-%a.txt
srun --output=own-%a-%s.txt sh -c 'echo "step $SLURM_STEP_ID, $SLURM_STEPID"'
for step in 1 2 3 4; do
    srun --overlap sh -c 'echo $SLURM_STEP_ID' > at-once-$SLURM_ARRAY_TASK_ID-$step.txt &
done
wait
sort -n at-once-$SLURM_ARRAY_TASK_ID-*.txt
rm at-once-$SLURM_ARRAY_TASK_ID-*.txt
srun sh -c 'echo "last: $SLURM_STEP_ID"'
