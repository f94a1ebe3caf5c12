#!/bin/bash
#SBATCH --output=signal.txt
echo before
kill -KILL $$
echo after
