"""Where a run's numbers come from: command, code, versions, hardware, data, seeds."""

import hashlib
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from project.errors import InputError
from project.extensions import loaded_extensions

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "tensorboard", "jsonargparse", "numpy")
MAX_DIFF = 1_000_000
"""Number of characters of an uncommitted change that provenance.json keeps."""


@cache
def _git(*arguments: str) -> str | None:
    """What a git command prints in the project's own checkout; None if there is no checkout.

    Git is asked once: a process that trains several times runs the code that it loaded, even if the files change. An
    installed copy of the project can lie inside another project's repository, whose commits say nothing about it: a
    repository counts only if this very file is committed to it.
    """
    # a git hook, such as one that runs the tests before a commit, sets the first three to its own repository
    elsewhere = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in elsewhere}
    checkout = Path(__file__).parents[3]
    if not (checkout / ".git").exists():
        return None

    def ask(*words: str) -> str:
        command = ["git", "-C", str(checkout), *words]
        result = subprocess.run(  # noqa: S603 - a fixed program, no shell
            command, env=environment, capture_output=True, text=True, timeout=10, check=True
        )
        return result.stdout.strip()

    try:
        ask("ls-files", "--error-unmatch", __file__)
        return ask(*arguments)
    except (OSError, subprocess.SubprocessError):
        return None


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide a run's results."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def hardware() -> dict[str, Any]:
    """The processor, the number of cores, the threads that torch uses, and the GPUs of this machine."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = models[0] if models else processor
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "system": platform.platform(),
        "processor": processor,
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpus": gpus,
    }


def provenance(seed: int, split_seed: int, data: dict[str, Any]) -> dict[str, Any]:
    """Where a run's numbers come from: command, code, versions, hardware, data, seeds.

    Args:
        seed: It decides weights, order of the batches, dropout and augmentation.
        split_seed: It decides which examples are for validation.
        data: It has the data's name and source, and the hashes of the data and of the splits.
    """
    diff = _git("diff", "HEAD") or ""
    return {
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_diff": diff[:MAX_DIFF],
        "versions": versions(),
        "hardware": hardware(),
        "extensions": loaded_extensions(),
        "seeds": {"seed_everything": seed, "split_seed": split_seed},
        "data": data,
    }


def origin_of(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same in all runs that are compared.

    Args:
        provenance: It is the content of a run's provenance.json, as `read_provenance` gives it.

    Raises:
        InputError: If the run did not record it.
    """
    known = {"data": ("sha256", "split_sha256"), "hardware": ("processor", "gpus"), "versions": ()}
    for part, names in known.items():
        if part not in provenance or not provenance[part].keys() >= set(names):
            raise InputError(
                f"a run's provenance.json does not say what its {part} were",
                "compare runs whose provenance.json is as the training wrote it",
            )
    data, hardware = provenance["data"], provenance["hardware"]
    diff = provenance.get("git_diff") or ""
    return {
        "commit": provenance.get("git_commit"),
        "extensions": provenance.get("extensions") or {},
        "uncommitted change": hashlib.sha256(diff.encode()).hexdigest()[:12] if diff else None,
        "versions": provenance["versions"],
        "processor": hardware["processor"],
        "gpus": hardware["gpus"],
        "data": data["sha256"],
        "split": data["split_sha256"],
    }
