#!/bin/bash
#SBATCH --output=/dev/null
sleep 1000 & echo $! > pids
setsid sleep 1000 & echo $! >> pids
(trap '' TERM HUP; sleep 1000) & echo $! >> pids
exit 0
