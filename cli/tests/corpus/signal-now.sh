#!/bin/bash
#SBATCH --output=%x.txt
# both sleep in turns, and would say of which signal a sleep has died
exec 2> /dev/null
trap 'echo "the shell is told"; echo told > told-shell' USR1
srun sh -c 'trap "echo the step is told; echo told > told-step" USR1; echo > ready; while [ ! -e end ]; do sleep 0.05; done' &
until [ -e end ]; do sleep 0.05; done
wait
