"""The run folder: where a run keeps what it was told, what it found and where every number came from."""

import errno
import fcntl
import hashlib
import json
import math
import os
import platform
import re
import secrets
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
import yaml

from project.errors import InputError

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "tensorboard", "jsonargparse", "numpy")
LONGEST_DIFF = 1_000_000
"""Characters of an uncommitted change that provenance.json keeps."""


def new_run_folder(root: Path, dataset: str, name: str | None, auto: bool = False) -> Path:
    """Create `root`/`dataset`/`name` for one run alone.

    Args:
        root: Folder of all runs.
        dataset: The data set's name.
        name: The run's name; time and a short random id if None.
        auto: Take a folder that is there already if it has no settings yet: a run that ended before it began.

    Raises:
        InputError: If a run of that name exists, or the folder cannot be made or written.
    """
    if name is not None and (not name or Path(name).name != name or name in (".", "..")):
        raise InputError(f"run_name {name!r} is no plain folder name", "type for example --run_name first")
    parent = root / dataset
    try:
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            folder = parent / (name or f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{secrets.token_hex(3)}")
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                if auto and not (folder / "config.yaml").exists():
                    return folder
                if name is not None:
                    raise InputError(
                        f"the run folder {folder} exists already, and runs are never overwritten",
                        "choose another --run_name, or leave it out for a name made of time and chance",
                    ) from None
    except InputError:
        raise
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(
                f"the run folder's name is too long: {name}", "type for example --run_name first"
            ) from None
        raise InputError(
            f"the run folder cannot be made under {parent}: {error.strerror or error}",
            "choose a folder that can be written: --run_root FOLDER",
        ) from None


def find_run_folder(path: Path) -> Path:
    """The run folder that a path means: the folder itself, or the one around a checkpoint inside it.

    Raises:
        InputError: If there is no run there.
    """
    for candidate in (path, path.parent, path.parent.parent):
        if candidate.is_dir() and (candidate / "config.yaml").is_file():
            return candidate
    raise InputError(
        f"{path} is no run folder: it has no config.yaml",
        "name the folder that training printed, such as runs/fashion_mnist/NAME",
    )


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write plain data whole or not at all; NaN and infinity, which JSON lacks, become null."""
    text = json.dumps(finite(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # a list of numbers, such as a row of the confusion matrix, goes on one line
    text = re.sub(
        r"\[[\s\d.,eE+-]*\]", lambda match: re.sub(r"\s+", " ", match[0]).replace("[ ", "[").replace(" ]", "]"), text
    )
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Write a text whole or not at all."""
    part = part_of(path)
    try:
        part.write_text(text, encoding="utf-8")
        replace_durably(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def part_of(path: Path) -> Path:
    """Where a file is written before it takes its place: beside it, as a rename works within one file system alone."""
    return path.with_name(path.name + ".part")


def replace_durably(part: Path, path: Path) -> None:
    """Put a finished file in the place of another, so that after a crash there is one or the other, and whole."""
    _flush(part)
    part.replace(path)
    _flush(path.parent)


def _flush(path: Path) -> None:
    """Wait until a file's content, or a folder's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's mapping; empty if there is no such file.

    Raises:
        InputError: If it is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}", "restore the file, or delete it") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no mapping", "restore the file, or delete it")
    return content


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's mapping, read as plain data.

    Raises:
        InputError: If it is missing or no such file.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "name a YAML file of settings") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        why = " ".join(str(error).split())
        raise InputError(f"{path} is not YAML: {why[:300]}", "mend the file, or name another") from None
    if not isinstance(content, dict):
        kinds = {list: "a list", str: "a text", type(None): "nothing"}
        found = kinds.get(type(content), f"the value {content}")
        raise InputError(
            f"{path} holds {found}, but settings are expected", "write one setting per line, such as model.depth: 3"
        )
    return content


def lock_run_folder(folder: Path) -> int:
    """Keep other processes from training the same run while the file descriptor that this returns is open.

    Raises:
        InputError: If one does already.
    """
    descriptor = os.open(folder / "train.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise InputError(
            f"another process is training {folder} at this moment", "wait until it has ended, or choose another run"
        ) from None
    return descriptor


def finite(value: Any) -> Any:
    """Nested plain data in which None stands for the NaN and the infinity that JSON lacks."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@cache
def _git(*arguments: str) -> str | None:
    """What a git command prints in the project's own checkout, or None where there is none.

    Asked once: a process that trains several times runs the code that it loaded, whatever becomes of the files.
    """
    checkout = Path(__file__).parent.parent
    if not (checkout / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(checkout), *arguments]
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def hardware() -> dict[str, Any]:
    """What the machine is: processor, cores, threads that torch uses, and GPUs."""
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
        seed: Of weights, order, dropout and augmentation.
        split_seed: Of the validation split.
        data: Source and hashes of the data and of the splits.
    """
    diff = _git("diff", "HEAD") or ""
    return {
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_diff": diff[:LONGEST_DIFF],
        "versions": versions(),
        "hardware": hardware(),
        "seeds": {"seed_everything": seed, "split_seed": split_seed},
        "data": data,
    }


def origin_of(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What must be alike for runs to be compared, out of a run's provenance.json."""
    data, hardware = provenance["data"], provenance["hardware"]
    diff = provenance.get("git_diff") or ""
    return {
        "commit": provenance.get("git_commit"),
        "uncommitted change": hashlib.sha256(diff.encode()).hexdigest()[:12] if diff else None,
        "versions": provenance["versions"],
        "processor": hardware["processor"],
        "gpus": hardware["gpus"],
        "data": data["sha256"],
        "split": data["split_sha256"],
    }
