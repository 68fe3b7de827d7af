"""Which process works on a run, and whether it still exists."""

import contextlib
import multiprocessing
import os
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from project.runs.saving.platform_differences import process_exists


def this_worker() -> dict[str, Any]:
    """Describe this process so that no later process can be mistaken for it: a system uses process numbers again."""
    place = [socket.gethostname()]
    with contextlib.suppress(OSError):  # only Linux has these: the machine's start, and the container
        place.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        place.append(str(Path("/proc/self/ns/pid").readlink()))
    return {"place": " ".join(place), "pid": os.getpid(), "started": _started(os.getpid())}


def has_ended_here(worker: Mapping[str, Any] | None) -> bool:
    """Whether a worker was a process on this machine and does not exist any more."""
    if not worker or worker["place"] != this_worker()["place"]:
        return False
    return not (process_exists(worker["pid"]) and worker["started"] == _started(worker["pid"]))


def _started(pid: int) -> str:
    """When a process started, in the system's own ticks; empty where the system does not say it."""
    try:
        # the process's name, in brackets, may itself contain spaces and brackets
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def end_with_parent_process() -> None:
    """Let this process, which multiprocessing started, end as soon as the one that started it does."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
