"""How missing data are fetched: torchvision's download, or Debian's package."""

import logging
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock

from project.data.sources.idx import last_line
from project.data.sources.known_sets import FILES, KnownSet, what_is_missing
from project.errors import InputError

log = logging.getLogger("project")

DEBIAN_PACKAGE = "dataset-fashion-mnist"
STALL_TIMEOUT_S = 5.0
"""How long a server may be silent before the next source is tried."""
APT_TIMEOUT_S = 900.0
"""The longest time for one call of apt-get, which fetches some 30 MB."""
LOCK_TIMEOUT_S = 1800.0
"""The longest wait for another process that is fetching the same data."""
NO_DOWNLOAD = "Add --data.download true, or for a run that is there --data_root FOLDER, into which it is fetched"
"""The remedy where data are missing and must not be fetched."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock, after a limited wait for another process; the system frees the lock of a process that died."""
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        log.info("Another process is fetching into %s; waiting for it.", path.parent)
        lock.acquire(timeout=LOCK_TIMEOUT_S)  # filelock.Timeout is an OSError
    try:
        yield
    finally:
        lock.release()


@contextmanager
def impatient() -> Iterator[None]:
    """Give up on a silent server after a while: torchvision sets no timeout, so only the default can be changed."""
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(timeout)


def torchvision_datasets() -> Any:
    """Torchvision's module of data sets, imported only where it is needed: that takes longer than loading the data."""
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision built for another torch
        raise InputError(
            f"torchvision cannot be imported ({last_line(error)})",
            "type: pip install --force-reinstall torch torchvision",
        ) from None
    return datasets


def fetch_with_torchvision(known: KnownSet, workspace: Path) -> Path:
    """Let torchvision download and unpack the four files. Returns the folder that holds them."""
    published = getattr(torchvision_datasets(), known.folder)
    reasons = []
    with impatient():
        # One mirror at a time: torchvision goes on to the next after some errors, but not after a timeout.
        for mirror in vars(published).get("mirrors") or [published.url]:
            log.info("Downloading %s from %s", known.folder, mirror)
            from_mirror = type(known.folder, (published,), {"mirrors": [mirror]})
            try:
                from_mirror(workspace, train=False, download=True, **known.arguments)
            except Exception as error:  # whatever fails there, the reason is reported and the next source is tried
                reasons.append(f"{mirror} ({last_line(error)})")
            else:
                return workspace / known.folder / "raw"
    raise RuntimeError(", ".join(reasons))


def fetch_with_apt(known: KnownSet, workspace: Path) -> Path:
    """Fetch and unpack Debian's package, without root and without installing it. Returns the folder of its files."""
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise RuntimeError(f"there is no {program} here")
    workspace = workspace.resolve()
    options = {
        # Lists and caches of our own need no root, and leave the system's alone.
        "Dir::State::Lists": workspace / "lists",
        "Dir::Cache": workspace,
        # Run by root, apt would hand the download to a user who may not write to the workspace.
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::Retries": 0,
        "Acquire::http::Timeout": int(STALL_TIMEOUT_S),
        "Acquire::https::Timeout": int(STALL_TIMEOUT_S),
    }
    for name in ("lists", "archives"):
        (workspace / name / "partial").mkdir(parents=True)
    apt_get = ["apt-get", "-q", *(f"-o{key}={value}" for key, value in options.items())]
    log.info("Fetching the package lists, and then Debian's package %s (31 MB), with apt-get", DEBIAN_PACKAGE)
    # One broken source among many makes the update fail, but may not matter: the download decides.
    update = _run([*apt_get, "update"], workspace)
    download = _run([*apt_get, "download", DEBIAN_PACKAGE], workspace)
    packages = list(workspace.glob(f"{DEBIAN_PACKAGE}_*.deb"))
    if download.returncode or len(packages) != 1:
        complaints = [*update.stderr.splitlines()[:1], *download.stderr.splitlines()[-1:]]
        raise RuntimeError(" and ".join(complaints) or f"apt-get ended with status {download.returncode}")
    unpacked = _run(["dpkg-deb", "--extract", str(packages[0]), str(workspace / "unpacked")], workspace)
    if unpacked.returncode:
        raise RuntimeError(last_line(unpacked.stderr))
    folders = {path.parent for path in (workspace / "unpacked").rglob(f"{FILES[0][0]}*")}
    if len(folders) != 1 or what_is_missing(next(iter(folders))):
        raise RuntimeError(f"{packages[0].name} does not hold the four files of {known.folder}")
    return folders.pop()


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program of the system: its progress goes to this process's stderr, its own stderr is returned."""
    text: dict[str, Any] = {"text": True, "errors": "replace", "timeout": APT_TIMEOUT_S, "check": False}
    # fixed programs, no shell
    return subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=2, stderr=subprocess.PIPE, **text)  # noqa: S603
