#!/bin/bash
#SBATCH --output=queue.log --time=5
squeue --noheader -j "$SLURM_JOB_ID" -o '%t %N %D'
sacct -X -n -P -j "$SLURM_JOB_ID" --format=State,NodeList
scontrol show hostnames "$SLURM_JOB_NODELIST"
scontrol show job "$SLURM_JOB_ID" | grep -o 'JobState=[A-Z]*'
sinfo --noheader -o '%P %D'
sbcast words.txt "$PWD/copy.txt" && cat copy.txt
other=$(sbatch --parsable --hold --output=none --wrap true)
scancel "$other"
squeue --noheader --states=all -j "$other" -o '%t'
seff "$other" | grep State
