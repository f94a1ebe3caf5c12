#!/bin/bash
#SBATCH --job-name=writer
#SBATCH --output=%x.txt
cat << EOF > inner.sh
#!/bin/bash
#SBATCH --job-name=inner
#SBATCH --output=%x.txt
echo "written by \$1"
EOF
sbatch --wait inner.sh "$SLURM_JOB_NAME" | cut -c1-19
