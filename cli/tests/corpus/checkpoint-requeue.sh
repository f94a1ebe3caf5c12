#!/bin/bash
#SBATCH --job-name=train
#SBATCH --time=1:00
#SBATCH --signal=B:USR1@50      # well before the end: save, and go on in another run
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x.log

save_and_requeue() {
    echo "saved at epoch $epoch"
    echo "$epoch" > checkpoint
    scontrol requeue "$SLURM_JOB_ID"
    sleep 1000
}
trap save_and_requeue USR1

epoch=$(cat checkpoint 2> /dev/null || echo 0)
echo "begins at epoch $epoch"
if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then
    echo "finished"
    exit 0
fi
epoch=7
sleep 1000 &
wait
