#!/bin/bash
#SBATCH --ntasks=4
#SBATCH --gres=gpu:a100:2
#SBATCH --output=steps.txt

shown() { srun "$@" ./show.sh | sort; }
shown -n 2 --gpus-per-task=1
SLURM_GPUS_PER_TASK=1 shown -n 2
shown -n 2 --gpus-per-node=a100:2
shown -n 1 --gres=gpu:1
shown -n 1 -G 1
shown -n 1 --gres=none
shown -n 2

# programs side by side, each on a gpu of its own
for i in 1 2; do
    srun --ntasks=1 --exact --gpus=1 ./meet.sh $i &
done
wait
sort gpu-1.txt gpu-2.txt
rm gpu-1.txt gpu-2.txt

srun -n 2 --gpus-per-task=2 true
echo "code $?"
srun -n 1 --gres=gpu:h100:1 true
echo "code $?"
