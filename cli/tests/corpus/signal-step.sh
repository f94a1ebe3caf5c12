#!/bin/bash
#SBATCH --ntasks=2 --output=steps.txt
wait_for() { until [ -e "$1" ]; do sleep 0.05; done; rm "$1"; }
step() {
    # a shell would say of which signal its sleep has died
    srun --exact -n 1 sh -c 'exec 2> /dev/null; trap "echo $0 told; exit 3" USR1; : > ready; while :; do sleep 0.05; done' "$1" &
    wait_for ready
}
step first
first=$!
step second
scancel -s USR1 "$SLURM_JOB_ID.1"
wait $!
echo "second: $?"
scancel "$SLURM_JOB_ID.0"
wait $first
echo "first: $?"
trap 'echo "shell told"; : > told' USR1
scancel -s USR1 "$SLURM_JOB_ID.batch"
wait_for told
