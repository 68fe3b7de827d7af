"""Runs that are killed at a chosen moment, in processes forked from one that has imported everything already.

A run of the command line takes seconds to import and a tenth of a second to train: forked, hundreds of runs can be
killed and resumed in a test. The kills live here alone; the project knows nothing of them.
"""

import itertools
import json
import multiprocessing.forkserver
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from pytorch_lightning.strategies import DDPStrategy
from tensorboard.backend.event_processing import plugin_event_accumulator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import project.data.loaders
import project.runs.saving.checkpointing
import project.runs.saving.files
from project.data.datamodule import ImageDataModule
from project.data.loaders import TrainLoader
from project.runs.build import build_run
from project.runs.command import run_command
from project.runs.parser import parse_settings
from project.runs.saving.checkpointing import PlainCheckpointIO, RunCheckpoint
from project.runs.train import train
from project.training.callbacks import EarlyStop
from project.training.module import ImageModule

TIMES = ("train_seconds", "examples_per_second")


@dataclass(frozen=True)
class Kill:
    """SIGKILL, or another signal, at the nth time (from 1) that something happens.

    Args:
        moment: step (after the optimizer's), validation (after a chunk), test (likewise), write (in the middle of a
            checkpoint's bytes), publish (after a rename of a checkpoint), saved (right after a checkpoint), start
            (before anything is read), rendezvous (while the first process waits for the others).
        number: Which time.
        signum: The signal.
        rank: The process that it happens in.
        group: Whether all processes of the run get the signal, as by Ctrl-C in a terminal.
    """

    moment: str
    number: int
    signum: int = signal.SIGKILL
    rank: int = 0
    group: bool = False


def _after(owner: Any, name: str, act: Callable[[], None]) -> None:
    """Let something happen whenever a method has returned."""
    method = getattr(owner, name)

    def replaced(*args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        act()
        return result

    setattr(owner, name, replaced)


def _arm(kill: Kill) -> None:
    if int(os.environ.get("LOCAL_RANK", "0")) != kill.rank:
        return
    count = 0

    def strike() -> None:
        nonlocal count
        count += 1
        if count == kill.number:
            struck = os.environ.get("HARNESS_STRUCK")
            if struck:
                Path(struck).write_text(str(time.time()))
            if kill.group:
                os.killpg(os.getpgrp(), kill.signum)
            else:
                os.kill(os.getpid(), kill.signum)

    if kill.moment == "rendezvous":
        setup = DDPStrategy.setup_environment

        def wait(self: DDPStrategy) -> None:
            threading.Timer(0.3, strike).start()
            setup(self)

        DDPStrategy.setup_environment = wait  # type: ignore[method-assign]
        return

    if kill.moment == "write":
        checkpointing: Any = project.runs.saving.checkpointing
        write = checkpointing.write_part

        def half(path: Path, content: Any, folder: Path | None = None) -> Path:
            write(path, content[: len(content) // 2], folder)
            strike()
            return write(path, content, folder)

        checkpointing.write_part = half
        return
    if kill.moment == "publish":
        replace = Path.replace

        def replace_and_strike(self: Path, target: Any) -> Path:
            result = replace(self, target)
            if ".ckpt" in self.name:
                strike()
            return result

        Path.replace = replace_and_strike  # type: ignore[method-assign, assignment]
        return
    owner, name = {
        "step": (ImageModule, "optimizer_step"),
        "validation": (ImageModule, "validation_step"),
        "test": (ImageModule, "test_step"),
        "saved": (RunCheckpoint, "_save"),
        "start": (ImageDataModule, "__init__"),
    }[kill.moment]
    _after(owner, name, strike)


def _nothing(*args: Any, **kwargs: Any) -> None:
    pass


def without_order() -> None:
    """The order of the batches drawn from whatever state the generators are in."""
    TrainLoader.epoch_order = lambda self: self.indices[torch.randperm(len(self.indices))]  # type: ignore[method-assign]


def without_position() -> None:
    TrainLoader.load_state_dict = _nothing  # type: ignore[method-assign]


def without_reseeding() -> None:
    project.data.loaders.seed_generators = _nothing


def without_epoch_sums() -> None:
    load = ImageModule.on_load_checkpoint

    def forget(self: ImageModule, checkpoint: dict[str, Any]) -> None:
        load(self, checkpoint)
        self.epochs.sums.zero_()

    ImageModule.on_load_checkpoint = forget  # type: ignore[method-assign]


def without_whole_epochs() -> None:
    """Checkpoints by step on an epoch's last batch too."""
    project.runs.saving.checkpointing._is_followed_by_more = lambda trainer, batch_idx: False


def without_purge() -> None:
    """What is logged after the checkpoint is on the disk at once: what waits to be written would be lost."""
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    from project.runs import build

    add_event = EventFileWriter.add_event

    def add_and_flush(self: EventFileWriter, event: Any) -> None:
        add_event(self, event)
        self.flush()

    EventFileWriter.add_event = add_and_flush
    build.prepare_logger = lambda logger, step: None  # type: ignore[attr-defined]


def without_immediate_scalars() -> None:
    """Lightning's way: scalars reach the logger after the batch's end, and so after the checkpoint."""

    def hold_back(self: ImageModule, values: dict[str, float], step: int) -> None:
        by_step = "train/loss_step" in values
        self.log_dict({f"late/{name}": value for name, value in values.items()}, on_step=by_step, on_epoch=not by_step)

    ImageModule._write = hold_back  # type: ignore[method-assign]


def without_flush() -> None:
    """Scalars that wait in the writer's queue, here of a slow disk, while the checkpoint is written."""
    from pytorch_lightning.loggers import TensorBoardLogger
    from tensorboard.summary.writer.record_writer import RecordWriter

    write = RecordWriter.write

    def slowly(self: RecordWriter, data: bytes) -> None:
        time.sleep(0.02)
        write(self, data)

    RecordWriter.write = slowly
    TensorBoardLogger.save = _nothing  # type: ignore[method-assign]


def set_clock_back(seconds: float) -> None:
    now = time.time
    time.time = lambda: now() - seconds


def an_hour_ago() -> None:
    set_clock_back(3600)


def two_hours_ago() -> None:
    set_clock_back(7200)


def without_early_stopping_state() -> None:
    EarlyStop.load_state_dict = _nothing  # type: ignore[method-assign]


def without_best_score() -> None:
    RunCheckpoint.load_state_dict = _nothing  # type: ignore[method-assign]


def without_best_first() -> None:
    """The last checkpoint before the best one, which then names a best epoch that is not there."""
    save = RunCheckpoint._save

    def last_first(self: RunCheckpoint, trainer: Any, score: float | None = None) -> None:
        if score is not None and self._is_best(score):
            self.best_score = score
            save(self, trainer)
            trainer.save_checkpoint(self.folder / "best.ckpt")
        else:
            save(self, trainer)

    RunCheckpoint._save = last_first  # type: ignore[method-assign]


def without_atomic_writes() -> None:
    def in_place(self: Any, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        import io

        content, checkpointing = io.BytesIO(), cast(Any, project.runs.saving.checkpointing)
        torch.save(checkpoint, content)
        path.parent.mkdir(parents=True, exist_ok=True)
        checkpointing.write_part(path, content.getbuffer(), path.parent)

    project.runs.saving.files.part_of = lambda path: path
    PlainCheckpointIO.save_checkpoint = in_place  # type: ignore[method-assign]


def _child(args: list[str], output: str, kill: Kill | None, changes: Sequence[Callable[[], None]]) -> None:
    os.environ.pop("MLP_RUN_FOLDER", None)
    os.environ.pop("MLP_MAIN_PROCESS", None)
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    torch.set_num_threads(1)
    sys.argv = ["train.py", *args]
    for change in changes:
        change()
    if kill is not None:
        _arm(kill)
    run_command(lambda: bool(train(build_run(parse_settings()))) and None)


def _warm_context() -> multiprocessing.context.ForkServerContext:
    """A server that has imported this module, from which each run is forked."""
    folder = Path(__file__).parent
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(folder.parent)]))
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["harness"])
        multiprocessing.forkserver.ensure_running()
    return context


def start(function: Callable[..., None], *args: Any) -> multiprocessing.process.BaseProcess:
    """Call a function of this module in a process of its own that has imported everything already."""
    process = _warm_context().Process(target=function, args=args)
    process.start()
    return process


def save_forever(folder: Path, finished: Connection) -> None:
    """Save one checkpoint after the other, with their numbers as weights, and say which are finished."""
    folder.mkdir(parents=True)  # as every run's is, before its first checkpoint
    for number in itertools.count(1):
        weights = {"weight": torch.full((300_000,), float(number))}
        content = {"state_dict": weights, "spec": {}, "history": [], "global_step": number}
        PlainCheckpointIO(folder).save_checkpoint(content, folder / "checkpoints" / "last.ckpt")
        finished.send(number)


def run(args: Sequence[str], output: Path, kill: Kill | None = None, changes: Sequence[Callable[[], None]] = ()) -> int:
    """Train with these flags in a process of its own.

    Args:
        args: Flags of scripts/train.py.
        output: File to which what is printed is added.
        kill: When to kill it.
        changes: Functions, of this module, that take something out of the project before the run.

    Returns:
        The exit status, negative for a signal.
    """
    process = start(_child, list(args), str(output), kill, list(changes))
    process.join()
    assert process.exitcode is not None
    return process.exitcode


@dataclass(frozen=True)
class Outcome:
    """How a run of several processes ended.

    Args:
        status: Of the first process, negative for a signal.
        printed: By all of them.
        seconds: From the kill to the end of the first process.
        left: Processes that were still there two seconds later.
    """

    status: int
    printed: str
    seconds: float
    left: list[int]


def run_processes(args: Sequence[str], folder: Path, kill: Kill | None = None, launcher: Sequence[str] = ()) -> Outcome:
    """Train with these flags as from a shell, with this file in the place of scripts/train.py.

    Args:
        args: Flags of scripts/train.py.
        folder: For what the harness itself writes down.
        kill: When to kill what.
        launcher: Goes between python and the script, such as -m torch.distributed.run.
    """
    struck = folder / "struck"
    struck.unlink(missing_ok=True)
    environment = os.environ | {"HARNESS_STRUCK": str(struck), "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(Path(__file__).parent.parent)
    if kill is not None:
        environment["HARNESS_KILL"] = json.dumps(asdict(kill))
    process = subprocess.Popen(
        [sys.executable, *launcher, __file__, *args],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=300)
    finally:
        ended = time.time()
        time.sleep(2 if _alive(process.pid) else 0)
        left = _alive(process.pid)
        for number in left:
            os.kill(number, signal.SIGKILL)
    seconds = ended - float(struck.read_text()) if struck.exists() else 0.0
    return Outcome(process.returncode, printed, seconds, left)


def _alive(group: int) -> list[int]:
    """Processes of a process group that still run; one that only waits to be counted does not."""
    listed = subprocess.run(["ps", "-eo", "pid=,pgid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return [int(number) for number, pgid, state in rows if int(pgid) == group and not state.startswith("Z")]


def texts(folder: Path) -> dict[str, int]:
    """How often TensorBoard shows each text of a run."""
    events = plugin_event_accumulator.EventAccumulator(str(folder))  # the page's own: the other one keeps old texts
    events.Reload()
    tags = [tag for tag in events.Tags()["tensors"] if tag.endswith("/text_summary")]
    return {tag: len(events.Tensors(tag)) for tag in tags}


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a run: for each name, steps and values."""
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return {
        tag: sorted((event.step, event.value) for event in accumulator.Scalars(tag))
        for tag in accumulator.Tags()["scalars"]
    }


def checkpoint(folder: Path, name: str = "last") -> dict[str, Any]:
    content = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
    content["callbacks"]["EpochLog"].pop("train_seconds")
    return dict(content)


def metrics(folder: Path) -> dict[str, Any]:
    """metrics.json without times."""
    content = json.loads((folder / "metrics.json").read_text())
    return {name: value for name, value in content.items() if name not in TIMES}


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two nested structures of plain data and tensors are not the same to the last bit."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if one.dtype == other.dtype and torch.equal(one, other) else [where]
    if isinstance(one, dict) and isinstance(other, dict):
        missing = [f"{where}/{key} is in one alone" for key in one.keys() ^ other.keys()]
        return missing + [
            d for key in one.keys() & other.keys() for d in differences(one[key], other[key], f"{where}/{key}")
        ]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        return [
            d
            for index, (a, b) in enumerate(zip(one, other, strict=True))
            for d in differences(a, b, f"{where}/{index}")
        ]
    return [] if type(one) is type(other) and one == other else [f"{where}: {one} {other}"]


def compare(folder: Path, unbroken: Path) -> list[str]:
    """How a run's weights, optimizer, schedule, metrics, epochs and scalars differ from an unbroken one's."""
    found = differences(checkpoint(folder), checkpoint(unbroken), "last")
    found += differences(checkpoint(folder, "best"), checkpoint(unbroken, "best"), "best")
    found += differences(metrics(folder), metrics(unbroken), "metrics")
    histories = [(place / "history.csv").read_text(encoding="utf-8") for place in (folder, unbroken)]
    found += differences(histories[0], histories[1], "history")
    return found + differences(scalars(folder), scalars(unbroken), "scalars")


if __name__ == "__main__":
    if "HARNESS_KILL" in os.environ:
        _arm(Kill(**json.loads(os.environ["HARNESS_KILL"])))
    run_command(lambda: bool(train(build_run(parse_settings()))) and None)
