"""What a run says when it cannot go on or is resumed in vain; the other tests hold classes, numbers and flags."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from finished import finish, small_flags

from project.errors import DivergenceError, InputError, RunError
from project.runs.build import build_run
from project.runs.parser import parse_settings
from project.runs.saving.checkpointing import RunCheckpoint
from project.runs.saving.run_folder import lock_run_folder
from project.runs.trainer_checks import explain_failure


@pytest.fixture(scope="module")
def finished(idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finish(*small_flags(idx_folder, tmp_path_factory.mktemp("runs")), "--run_name=x")


@pytest.mark.parametrize(
    ("status", "flags", "cause", "remedy"),
    [
        ("completed", "", "{} is finished (completed after 2 epochs): there is nothing to resume",
         "to train it longer: --resume {} --trainer.max_epochs 4"),
        ("completed", "--model.depth=3 --model.dropout=0.5",
         "{} has other settings: model.depth is 2 in the run, 3 now; model.dropout is 0.2 in the run, 0.5 now",
         "leave them out to go on with the run's, or start a new run; may change: "),
        ("interrupted", "--trainer.max_epochs=1", "trainer.max_epochs is 1, but 2 epochs are done already",
         "type --trainer.max_epochs 3 or more, or leave it out"),
        ("diverged", "", "{} diverged, and would again at the same step",
         "start a new run with a smaller --model.learning_rate"),
        ("interrupted", "--run_name=y", "--resume names the run already", "leave --run_name out, or type"),
    ],
)  # fmt: skip
def test_a_run_that_is_not_resumed(
    status: str, flags: str, cause: str, remedy: str, finished: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "x"))
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps(metrics | {"status": status}))
    with pytest.raises(InputError) as caught:
        build_run(parse_settings([f"--resume={run}", *flags.split()]))
    assert caught.value.cause == cause.replace("{}", str(run))
    assert caught.value.remedy.startswith(remedy.replace("{}", str(run)))


def test_a_run_that_is_being_trained(tmp_path: Path) -> None:
    lock_run_folder(tmp_path)
    with pytest.raises(InputError) as caught:
        lock_run_folder(tmp_path)
    assert caught.value.cause == f"another process is training {tmp_path} at this moment"
    assert caught.value.remedy == "wait until it has ended, or choose another run"


@pytest.mark.parametrize(
    ("precision", "cause", "remedy"),
    [
        ("32-true", "the learning rate, 0.5 there, is too high", "type --model.learning_rate 0.05, or --trainer.grad"),
        ("16-mixed", "numbers too large for float16", "type --trainer.precision bf16-mixed, or 32; nothing was saved"),
    ],
)
def test_a_run_that_diverges(precision: str, cause: str, remedy: str, tmp_path: Path) -> None:
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.5}])
    trainer: Any = SimpleNamespace(optimizers=[optimizer], precision=precision, current_epoch=1)
    with pytest.raises(DivergenceError) as caught:
        RunCheckpoint(tmp_path, "train/loss", "min", None)._stop_diverged(trainer, "the loss", 9)
    assert caught.value.cause == f"the loss became NaN or infinite at step 9 (epoch 2): most likely {cause}"
    assert caught.value.remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("error", "cause", "remedy"),
    [
        (OSError(28, "No space left on device", "last.ckpt"),
         "a file of the run cannot be written: No space left on device (last.ckpt)", "make room, "),
        (RuntimeError("[gloo] Connection closed by peer"), "another process of this run died", "see what it said, "),
    ],
)  # fmt: skip
def test_a_run_that_fails(error: Exception, cause: str, remedy: str, tmp_path: Path) -> None:
    found = explain_failure(error, tmp_path, 2, None)
    assert isinstance(found, RunError)
    assert found.cause == cause
    assert found.remedy.startswith(remedy)
    assert f"--resume {tmp_path}" in found.remedy
