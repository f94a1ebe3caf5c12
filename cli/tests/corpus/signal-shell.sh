#!/bin/bash
#SBATCH --time=1:00
#SBATCH --signal=B:USR1@50     # the batch shell alone, fifty seconds before the end
#SBATCH --output=signal.txt

checkpoint() {
    echo "saving step $step"
    echo "$step" > state
    exit 0
}
trap checkpoint USR1

step=1
sleep 100 & wait
