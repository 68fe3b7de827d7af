"""Where a study's runs are computed: workers on this machine, or any cluster of Dask's."""

import importlib
import ipaddress
import os
import queue
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dask
from distributed import Client, Future, KilledWorker, LocalCluster, Queue
from distributed.deploy.cluster import Cluster

from project.errors import InputError, RunError
from project.runs.saving.files import read_json, read_yaml
from project.runs.saving.platform_differences import usable_cores

MAX_RETRIES = 3
"""A run whose worker died starts again so many times; then it has failed."""
CONNECT_S = 20
DISK = "disk"
"""The key under which a task gives the system's words if its disk could not be written: that is no result of a run."""
REPORTS = "validation"
"""Trials of a search report each epoch under this topic."""


def answers(client: Client, trial: int) -> Any:
    """The queue in which a trial finds, for each report, whether it shall stop."""
    return Queue(f"answers to trial {trial}", client=client)


class Workers:
    """Dask's workers, each thread of them with one task at a time.

    Attributes:
        running: The tasks in progress, with what the caller calls them.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.running: dict[Any, Any] = {}
        self.events: queue.SimpleQueue[Any] = queue.SimpleQueue()

    @property
    def dashboard(self) -> str:
        """The address of Dask's page on the cluster, or nothing if it has none."""
        has_one = "dashboard" in (self.client.scheduler_info().get("services") or {})
        return str(self.client.dashboard_link) if has_one else ""

    @property
    def free(self) -> int:
        """How many tasks can start now."""
        return int(sum(self.client.nthreads().values())) - len(self.running)

    def submit(self, task: Any, function: Callable[..., dict[str, Any]], *arguments: Any) -> None:
        """Start a task; `wait` gives it back with what the function returns."""
        future = self.client.submit(function, *arguments, pure=False)
        self.running[future] = task
        future.add_done_callback(self.events.put)

    def ask(self, function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
        """Let a worker do something while no task is in progress, and return what it returns."""
        self.submit(None, function, *arguments)
        while (event := self.wait(1.0)) is None:
            pass
        return dict(event[1])

    def wait(self, seconds: float) -> Any:
        """What has happened next: a task with its result, another event, or None if nothing has for so long.

        Raises:
            RunError: If the cluster has gone, or a worker could not write to its disk.
        """
        try:
            event = self.events.get(timeout=seconds)
        except queue.Empty:
            if self.client.status != "running":
                raise RunError("the connection to the cluster is lost", "start the study again: it goes on") from None
            return None
        if not isinstance(event, Future):
            return event
        try:
            result = event.result()
        except KilledWorker:
            error = f"its worker died {MAX_RETRIES + 1} times: perhaps the memory is too small"
            result = {"status": "failed", "error": error}
        if DISK in result:
            cause = f"a run could not be written: {result[DISK]}"
            raise RunError(cause, "see to the disk, and start the study again: it goes on")
        return self.running.pop(event), result


@contextmanager
def connect(workers: int, scheduler: str = "", insecure: bool = False) -> Iterator[Workers]:
    """Start workers on this machine, or start or reach a cluster.

    Args:
        workers: So many processes, each with an equal share of the processor's cores, if there is no scheduler.
        scheduler: The address of a cluster's scheduler, such as tls://host:8786, or its scheduler file, or a YAML file
            that describes a cluster to start, such as those in configs/cluster.
        insecure: Whether a scheduler on another machine may be used without TLS.

    Raises:
        InputError: If the cluster cannot be used.
    """
    settings = {
        "distributed.scheduler.allowed-failures": MAX_RETRIES,
        "distributed.scheduler.worker-ttl": None,  # a worker that only computes is not dead
    }
    with dask.config.set(settings), ExitStack() as stack:
        if scheduler.endswith((".yaml", ".yml")):
            cluster = stack.enter_context(_described(Path(scheduler)))
            _checked(cluster.scheduler_address, insecure)
            client = Client(cluster, set_as_default=False)
        elif scheduler:
            client = _client(_checked(scheduler, insecure))
        else:
            client = Client(stack.enter_context(_local(workers)), set_as_default=False)
        yield Workers(stack.enter_context(client))


def _local(workers: int) -> LocalCluster:
    # one worker gets all cores, as a run of its own has them; Dask would give each worker a single one
    threads = "OMP_NUM_THREADS"
    share = {} if workers == 1 or threads in os.environ else {threads: max(1, usable_cores() // workers)}
    with dask.config.set({"distributed.nanny.pre-spawn-environ": share}):
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=None,  # the operating system's is enough
            silence_logs="CRITICAL",
            preload=__name__,
        )


def _described(path: Path) -> Cluster:
    """Start the cluster that a YAML file describes by the `class_path` and the `init_args` of one of Dask's classes.

    With `adapt`, which holds arguments of the class's method of this name, workers that have ended are replaced.
    """
    content = read_yaml(path, is_typed=True)
    module, _, name = str(content.get("class_path", "")).rpartition(".")
    try:
        cluster: Any = getattr(importlib.import_module(module), name)(**content.get("init_args", {}))
        if not isinstance(cluster, Cluster):
            raise TypeError(f"{name} makes no cluster of Dask's")
        if "adapt" in content:
            cluster.adapt(**content["adapt"])
    except Exception as error:  # of many kinds: whatever the cluster's own library raises
        cause = f"the cluster of {path} cannot be started: {_first_line(error)}"
        raise InputError(
            cause, "see configs/cluster for files that work, and docs/studies.md for what to install"
        ) from None
    return cluster


def _client(address: str) -> Client:
    try:
        return Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, ImportError, TypeError) as error:  # the last one where there are no keys for TLS
        cause = f"the scheduler {address} cannot be reached: {_first_line(error)}"
        raise InputError(cause, "start it with `dask scheduler`, or leave --scheduler out") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def dask_setup(_: object) -> None:
    """Dask calls this in each worker: Ctrl-C reaches it too, but the study's own process ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _checked(scheduler: str, insecure: bool) -> str:
    """The address of a scheduler that may be used: whoever reaches one without TLS can run code on its workers."""
    address = scheduler
    if Path(scheduler).is_file():
        address = str(read_json(Path(scheduler)).get("address", ""))
    try:
        parts = urlsplit(address if "://" in address else f"tcp://{address}")
        is_address = parts.scheme in ("tcp", "tls") and bool(parts.hostname and parts.port)
    except ValueError:  # a bracket without its other half, a port that does not exist
        is_address = False
    if not is_address:
        raise InputError(
            f"--scheduler {scheduler} is neither an address nor a file of a scheduler or a cluster",
            "write for example tls://host:8786",
        )
    if parts.scheme == "tcp" and not insecure and not _is_this_machine(parts.hostname or ""):
        raise InputError(
            f"{parts.geturl()} is on another machine and has no TLS: whoever reaches it can run code on its workers",
            "use tls://, see docs/studies.md, or add --insecure if all who reach it are trusted",
        )
    return parts.geturl()


def _is_this_machine(host: str) -> bool:
    try:
        return all(ipaddress.ip_address(info[4][0]).is_loopback for info in socket.getaddrinfo(host, None))
    except (OSError, ValueError):
        return False
