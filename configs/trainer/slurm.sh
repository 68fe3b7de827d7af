#!/usr/bin/env bash
# Two machines with four GPUs each under SLURM:   sbatch configs/trainer/slurm.sh --model.depth 3
# SLURM warns two minutes before it takes a machine back; the run is then saved, and the job starts again.
#SBATCH --job-name=mlp
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=4
#SBATCH --time=01:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
set -euo pipefail
srun .venv/bin/python scripts/train.py --config configs/trainer/nodes.yaml \
    --run_name "slurm-${SLURM_JOB_ID}" --resume auto "$@"
