#!/bin/bash
# submits a small workflow: prepare, three in parallel, collect
prepare=$(sbatch --parsable -J prepare -o /dev/null --wrap 'seq 3 > input')
map=$(sbatch --parsable -J map -o /dev/null -a 1-3 -d afterok:$prepare --wrap 'echo $(($(sed -n ${SLURM_ARRAY_TASK_ID}p input) * 7)) > part-$SLURM_ARRAY_TASK_ID' 2> /dev/null)
sbatch --wait -J collect -o sum.txt -d afterok:$map --wrap 'cat part-* | paste -sd+ | tee sum'
