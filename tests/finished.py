"""Finished runs, and scripts called in this process: what the tests of trained networks begin with."""

import io
import json
import runpy
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import ROOT
from pytorch_lightning import Callback, Trainer

from project.runs.build import build_run
from project.runs.parser import parse_settings
from project.runs.saving.signals import Interrupted, stop_signals
from project.runs.train import train


class Said(NamedTuple):
    """What a script left: its exit status, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The printed JSON of a script that succeeded."""
        assert self.status == 0, self.err
        return json.loads(self.out)


def small_flags(idx_folder: Path, root: Path) -> list[str]:
    """Flags of a run on the small data set that takes a second, in a folder of runs."""
    return [
        *("--data.dataset=idx", f"--data.root={idx_folder}", "--data.num_validation=40", "--data.batch_size=32"),
        *("--model.width=16", "--trainer.max_epochs=2", f"--run_root={root}"),
    ]


def finish(*flags: str) -> Path:
    """Train a run on the CPU, and return its folder."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.delenv("MLP_RUN_FOLDER", raising=False)
        run = build_run(parse_settings(["--trainer.accelerator=cpu", "--trainer.log_every_n_steps=2", *flags]))
        train(run)
    assert run.folder is not None
    return run.folder


class _StopAt(Callback):
    """Ask for a stop, as Ctrl-C does, after a number of steps."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            stop_signals.received = signal.SIGINT


def stop(flags: Sequence[str], step: int) -> Path:
    """Begin a run, stop it after a number of steps, and return its folder, ready to be resumed."""
    run = build_run(parse_settings(list(flags)))
    run.trainer.callbacks.insert(0, _StopAt(step))  # type: ignore[attr-defined]
    try:
        with pytest.raises(Interrupted):
            train(run)
    finally:
        stop_signals.received = 0
    assert run.folder is not None
    return run.folder


def call(capsys: pytest.CaptureFixture[str], script: str, *words: object, stdin: bytes = b"") -> Said:
    """Call `python scripts/SCRIPT.py WORDS` in this process."""
    path = ROOT / "scripts" / f"{script}.py"
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, words)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as leaving:
            runpy.run_path(str(path), run_name="__main__")
    code = leaving.value.code
    return Said(code if isinstance(code, int) else 0 if code is None else 1, *capsys.readouterr())


def read_metrics(run: Path) -> dict[str, Any]:
    """What training wrote into metrics.json."""
    return dict(json.loads((run / "metrics.json").read_text(encoding="utf-8")))
