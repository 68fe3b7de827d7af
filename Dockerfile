# syntax=docker/dockerfile:1
# The template with everything that it needs:
#   docker build -t mlp .
#   docker run --rm -v "$PWD/runs:/lab/runs" -v "$PWD/data:/lab/data" mlp python scripts/train.py --model.depth 3
# On an NVIDIA GPU, whose host has the NVIDIA Container Toolkit:
#   docker run --rm --gpus all -v "$PWD/runs:/lab/runs" mlp python scripts/train.py --config configs/trainer/gpu.yaml
# PyTorch's usual wheels work on both, and are large. For the small ones without CUDA, add the index that PyTorch's page
# on installation names: --build-arg TORCH_OPTIONS="--index-url ADDRESS"
FROM python:3.11-slim-bookworm

# for pip, when it installs torch and torchvision, which must come from one index
ARG TORCH_OPTIONS=
# such as .[dev] for the tests
ARG EXTRAS=.

# git: a run folder says from which commit its code is
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*

ENV PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PYTHONUNBUFFERED=1
WORKDIR /lab

# first what seldom changes, so that a change of the code does not install it again
COPY constraints.txt ./
# hadolint ignore=SC2086
RUN grep -E '^(torch|torchvision)==' constraints.txt > /tmp/torch.txt \
    && pip install $TORCH_OPTIONS -r /tmp/torch.txt
COPY . .
RUN pip install -c constraints.txt -e "$EXTRAS"

CMD ["python", "scripts/train.py"]
