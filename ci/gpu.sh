#!/usr/bin/env bash
# The benchmark of a GPU, JAX beside PyTorch, in an environment of its own (.nox/gpu, kept):
#
#   ci/gpu.sh [OPTION OF tests/bench/gpu.py...]
#
# Needs python3 with venv, a driver for CUDA 13 and 15 GB of disk. Writes gpu.json and gpu.md in
# bench-results. All batch sizes and dtypes take an hour or more, most of it compilers; minutes with
#   ci/gpu.sh --dtypes bfloat16 --batches 64 256 --compile-modes reduce-overhead --xla-flags
set -euo pipefail
cd "$(dirname "$0")/.."

python3 -m venv .nox/gpu
# CUDA 13, as PyPI's torch: both then use one copy of cuDNN in the same process.
.nox/gpu/bin/python -m pip install --quiet \
    'jax[cuda13]>=0.7.1' 'flax>=0.12' 'flaxmodels>=0.1.3' torch
exec .nox/gpu/bin/python tests/bench/gpu.py "$@"
