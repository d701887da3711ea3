#!/usr/bin/env bash
# Eight workers of a SLURM array fill one cache on a file system that all of them see:
#
#     sbatch examples/slurm_array.sh pets/ [any timm model]
# The same command again runs what a task that failed has not stored. When all tasks have ended, on any machine:
#
#     NCTRANSFER_CACHE=~/features nctransfer collapse --model tf_efficientnet_lite0 --data pets/
#
#SBATCH --job-name=features
#SBATCH --array=1-8
#SBATCH --cpus-per-task=4
set -euo pipefail
export NCTRANSFER_CACHE=${NCTRANSFER_CACHE:-$HOME/features} OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}

nctransfer extract --model "${2:-tf_efficientnet_lite0}" --data "$1" --shard auto
