#!/bin/bash
#SBATCH --test-only
touch made
