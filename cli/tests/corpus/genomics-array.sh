#!/bin/bash
#SBATCH --job-name=align          # shown by squeue
#SBATCH --account=project_2001234 # billing project
#SBATCH --partition=small
#SBATCH --time=02:00:00           # two hours each
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2         # threads of the aligner
#SBATCH --mem=1G
#SBATCH --array=1-3%2             # one element for each line of samples.txt
#SBATCH --output=logs/%x_%A_%a.out
#SBATCH --error=logs/%x_%A_%a.err
#SBATCH --mail-type=END,FAIL
#SBATCH --mail-user=ada@example.org

set -euo pipefail

sample=$(sed -n "${SLURM_ARRAY_TASK_ID}p" samples.txt)
echo "element $SLURM_ARRAY_TASK_ID of $SLURM_ARRAY_TASK_COUNT ($SLURM_ARRAY_TASK_MIN-$SLURM_ARRAY_TASK_MAX) of job $SLURM_ARRAY_JOB_ID: $sample"
mkdir -p aligned
tr a-z A-Z <<< "$sample on $SLURM_CPUS_PER_TASK threads" > "aligned/$sample.bam"
echo "$sample is done" >&2
