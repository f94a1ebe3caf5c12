#!/bin/bash
#SBATCH -J nf-ALIGN_(sample_1)
#SBATCH -o work/ab/cdef01/.command.log
#SBATCH --no-requeue
#SBATCH --signal B:USR2@30
#SBATCH -c 2
#SBATCH -t 01:00:00
#SBATCH --mem 100M
#SBATCH -p short
NXF_CHDIR=work/ab/cdef01
set -e
cd "$NXF_CHDIR"
trap 'exit 140' USR2
touch .command.begin
bash -ue .command.sh > .command.out 2> .command.err
echo $? > .exitcode
