#!/bin/bash
#SBATCH --job-name=chain
#SBATCH --output=chain.log
#SBATCH --open-mode=append

# continues from where the last one stopped, until there is nothing left to do
step=$(cat state 2> /dev/null || echo 0)
echo "step $step"
echo $((step + 1)) > state
if ((step < 2)); then
    case $0 in
        */slurm_script) sbatch --parsable --dependency=afterok:"$SLURM_JOB_ID" chain.sh > next ;;
    esac
else
    touch finished
fi
