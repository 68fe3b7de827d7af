# syntax=docker/dockerfile:1
# The template with everything that it needs, for a CPU:
#   docker build -t mlp .
#   docker run --rm -v "$PWD/runs:/work/runs" -v "$PWD/data:/work/data" mlp --model.depth 3
# For an NVIDIA GPU, whose host has the NVIDIA Container Toolkit, with PyTorch's wheels for CUDA:
#   docker build -t mlp-gpu --build-arg TORCH_INDEX=https://pypi.org/simple .
#   docker run --rm --gpus all -v "$PWD/runs:/work/runs" mlp-gpu --config configs/trainer/gpu.yaml
FROM python:3.11-slim-bookworm

# which wheels of torch and torchvision: they must come from one index, or they do not fit together
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# such as .[dev] for the tests
ARG EXTRAS=.

# git: a run folder says from which commit its code is
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*

ENV PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PYTHONUNBUFFERED=1
WORKDIR /work

# first what seldom changes, so that a change of the code does not install it again
COPY constraints.txt ./
RUN grep -E '^(torch|torchvision)==' constraints.txt > /tmp/torch.txt \
    && pip install --index-url "$TORCH_INDEX" --extra-index-url https://pypi.org/simple -r /tmp/torch.txt
COPY . .
RUN pip install -c constraints.txt -e "$EXTRAS"

ENTRYPOINT ["python", "scripts/train.py"]
