"""What Windows does otherwise, or cannot do: the only module of the project that names such things.

Everything here works on Linux and macOS. On Windows a process cannot ask another one to end in good order, cannot see
that its parent has ended, and cannot wait until a folder's list of files is on the disk; docs/reliability.md says what
follows from that.
"""

import importlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType


def _module(name: str) -> ModuleType | None:
    """A module of the standard library, or None on a system that does not have it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


fcntl, msvcrt = _module("fcntl"), _module("msvcrt")

STOP_SIGNALS: tuple[signal.Signals, ...] = tuple(
    signal.Signals[name] for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1") if hasattr(signal, name)
)
"""The system's request to end, Ctrl-C, the end of the terminal, and the warning that SLURM gives before a job ends."""
LOCKED_BYTE = 1 << 30
"""Position of the byte that is locked on Windows: beyond the file's end, because nobody may write to a locked byte."""


def try_to_lock(descriptor: int) -> bool:
    """Lock an open file against all other processes until the descriptor is closed or the process ends.

    Args:
        descriptor: The open file. A program that this process starts does not inherit it.

    Returns:
        False if another process holds the lock.
    """
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif msvcrt is not None:
            os.lseek(descriptor, LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except (BlockingIOError, PermissionError):  # the second one is what Windows says
        return False
    return True


def flush_file(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    _flush(path, os.O_RDWR)  # Windows flushes no file that is open for reading alone


def flush_folder(path: Path) -> None:
    """Wait until a folder's list of files is on the disk. Windows opens no folder, and orders its renames by itself."""
    if os.name != "nt":
        _flush(path, os.O_RDONLY)


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def call_in_forked_processes(function: Callable[[], object]) -> None:
    """Call a function at the start of every process that this one forks; Windows forks none."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


def end_with_parent(parent: int) -> None:
    """Let this process end within a second of its parent's end, whatever it does.

    On Windows a process keeps the number of its parent when that one ends, so nothing happens there.

    Args:
        parent: Number of the parent's process.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def process_exists(pid: int) -> bool:
    """Whether a process of this machine still runs; True on Windows, where asking would end it."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it belongs to another user
        return True
    return True


def usable_cores() -> int:
    """How many of the processor's cores this process may use: those of its affinity mask, within its quota of time."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return math.ceil(min(allowed, _quota()))


def _quota(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """The processors' worth of time that Linux gives this process's control group or one above it; inf without a bound.

    Source: the kernel's documentation, admin-guide/cgroup-v2 (cpu.max) and cgroup-v1 (cpu.cfs_quota_us).
    """
    try:
        lines = [line.split(":", 2) for line in own.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return math.inf
    found = math.inf
    for _, controllers, group in lines:
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "cpu" if controllers else root
        place = mount / group.lstrip("/")
        for folder in (place, *place.parents):
            found = min(found, _limit(folder))
            if folder == mount:
                break
    return found


def _limit(folder: Path) -> float:
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota, period = (
                (folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8") for name in ("quota", "period")
            )
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):  # no bound (max), or none that this process may see
        return math.inf
