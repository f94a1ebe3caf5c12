#!/bin/bash -e
#SBATCH --job-name=strict
#SBATCH --output=%x.txt
set -euo pipefail
shopt -s inherit_errexit
trap 'echo "line $LINENO failed"' ERR
echo "begins in ${TMPDIR:-/tmp}" | cut -d' ' -f1
false
echo never
