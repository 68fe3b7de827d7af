"""Lightning's callbacks in a run, as the command line names them: weights as without them, and as unbroken ones."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from finished import stop
from harness import compare
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import Timer

from project.errors import InputError
from project.runs.build import Run, build_run
from project.runs.parser import parse_settings
from project.runs.saving.files import read_json, read_yaml
from project.runs.train import train

EMA = ["--trainer.callbacks+=EMAWeightAveraging", "--trainer.callbacks.decay=0.5"]
FINDER = ["--trainer.callbacks+=LearningRateFinder", "--trainer.callbacks.min_lr=1e-4"]
QUICK = ["--diagnostics.enabled=false"]


def trained(*flags: str) -> Run:
    run = build_run(parse_settings(list(flags)))
    train(run)
    assert run.folder is not None
    return run


def folder_of(run: Run) -> Path:
    assert run.folder is not None
    return run.folder


def test_the_learning_rate_finder(small_run: list[str], tmp_path: Path) -> None:
    """The run is the one that the number which it found gives."""
    searched = trained(*small_run, *FINDER, "--run_name=searched")
    rate = read_yaml(folder_of(searched) / "config.yaml")["model"]["learning_rate"]
    assert 1e-4 < rate < 1
    assert searched.settings.model.learning_rate == searched.module.settings.learning_rate == rate
    given = trained(*small_run, f"--model.learning_rate={rate!r}", "--run_name=given")
    assert compare(folder_of(searched), folder_of(given)) == []
    evidence = read_json(folder_of(searched) / "evidence.json")
    assert evidence["settings"]["model.learning_rate"] == rate
    # one-cycle's highest rate, within what its shape leaves between the steps that are sampled
    assert max(forces["learning_rate"] for forces in evidence["forces"]) == pytest.approx(rate, rel=0.2)
    assert not list(folder_of(searched).glob(".lr_find*"))


def test_a_resumed_run_does_not_search_again(small_run: list[str]) -> None:
    flags = [*small_run, *QUICK, *FINDER]
    unbroken = trained(*flags, "--run_name=unbroken")
    folder = stop([*flags, "--run_name=stopped"], 4)
    rate = read_yaml(folder / "config.yaml")["model"]["learning_rate"]
    resumed = trained(f"--resume={folder}", *FINDER)
    assert resumed.module.settings.learning_rate == rate == unbroken.module.settings.learning_rate
    assert compare_weights(resumed, unbroken) == 0


def compare_weights(one: Run, other: Run) -> float:
    """The largest difference between two runs' weights."""
    pairs = zip(one.module.state_dict().values(), other.module.state_dict().values(), strict=True)
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs)


def test_a_range_test_that_names_no_rate_is_refused(small_run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("project.training.callbacks.range_test", lambda *_: None)
    with pytest.raises(InputError):
        trained(*small_run, *FINDER)


def test_an_average_of_the_weights_is_what_is_kept(small_run: list[str]) -> None:
    """The average by hand: half of what it was and half of the weights after each step, from the first step on."""
    weights: list[torch.Tensor] = []

    class Note(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            weights.append(pl_module.network.output.weight.detach().clone())

    run = build_run(parse_settings([*small_run, *QUICK, *EMA, "--trainer.max_epochs=1"]))
    run.trainer.callbacks.append(Note())  # type: ignore[attr-defined]
    train(run)
    expected = weights[0]
    for step in weights[1:]:
        expected = expected + (step - expected) * 0.5
    kept = torch.load(folder_of(run) / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    torch.testing.assert_close(kept["network.output.weight"], expected)
    torch.testing.assert_close(run.module.network.output.weight.detach(), expected)


@pytest.mark.parametrize("step", [4, 6, 9])
def test_an_average_of_the_weights_is_resumed(step: int, small_run: list[str]) -> None:
    flags = [*small_run, *QUICK, *EMA]
    unbroken = folder_of(trained(*flags, "--run_name=unbroken"))
    folder = stop([*flags, "--run_name=stopped"], step)
    trained(f"--resume={folder}", *EMA)
    assert compare(folder, unbroken) == []


def run_out(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Let the time run out as the nth batch (from 1) of a process ends."""
    calls = 0

    def elapsed(self: Timer, stage: Any = None) -> float:
        return 7200.0 if calls >= after else 0.0

    original = Timer.on_train_batch_end

    def counted(self: Timer, trainer: Any, *arguments: Any, **more: Any) -> None:
        nonlocal calls
        calls += 1
        original(self, trainer, *arguments, **more)

    monkeypatch.setattr(Timer, "time_elapsed", elapsed)
    monkeypatch.setattr(Timer, "on_train_batch_end", counted)


TIMERS = {
    "max_time": ("--trainer.max_time=00:01:00:00", "--trainer.max_time=00:02:00:00"),
    "Timer": (
        "--trainer.callbacks+=Timer --trainer.callbacks.duration=00:01:00:00",
        "--trainer.callbacks+=Timer --trainer.callbacks.duration=00:02:00:00",
    ),
}


@pytest.mark.parametrize(("limit", "longer"), TIMERS.values(), ids=TIMERS)
def test_a_limit_on_time_ends_after_a_whole_epoch(
    limit: str, longer: str, small_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = [*small_run, "--trainer.max_epochs=3"]
    unbroken = folder_of(trained(*flags, "--run_name=unbroken"))
    with monkeypatch.context() as patched:
        run_out(patched, after=8)  # in the second epoch of six steps
        folder = folder_of(trained(*flags, *limit.split(), "--run_name=limited"))
    metrics = read_json(folder / "metrics.json")
    assert (metrics["status"], metrics["epochs"], metrics["steps"]) == ("out_of_time", 2, 12)
    assert "test/accuracy" in metrics
    with monkeypatch.context() as patched:
        patched.setattr(Timer, "time_elapsed", lambda self, stage=None: 0.0)
        trained(f"--resume={folder}", *longer.split())
    assert (folder / "history.csv").read_text() == (unbroken / "history.csv").read_text()
    assert read_json(folder / "metrics.json")["status"] == "completed"
    weights = [torch.load(f / "checkpoints" / "last.ckpt", weights_only=True) for f in (folder, unbroken)]
    one, other = (content["state_dict"] for content in weights)
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_a_run_out_of_time_needs_more_time(small_run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run_out(monkeypatch, after=1)
    folder = folder_of(trained(*small_run, *QUICK, "--trainer.max_time=00:01:00:00"))
    with pytest.raises(InputError, match="max_time"):
        parse_settings([f"--resume={folder}"])
    assert parse_settings([f"--resume={folder}", "--trainer.max_time=null"]).trainer["max_time"] is None


def test_a_run_that_ends_in_time_is_completed(small_run: list[str]) -> None:
    run = trained(*small_run, *QUICK, "--trainer.callbacks+=Timer", "--trainer.callbacks.duration=00:01:00:00")
    assert json.loads((folder_of(run) / "metrics.json").read_text())["status"] == "completed"


def test_device_stats_go_to_the_logger(small_run: list[str]) -> None:
    pytest.importorskip("psutil")
    flags = ["--config=configs/logger/csv.yaml", "--trainer.callbacks+=DeviceStatsMonitor"]
    folder = folder_of(trained(*flags, *small_run))
    assert "DeviceStatsMonitor.on_train_batch_end/cpu_percent" in (folder / "metrics.csv").read_text()


def test_a_missing_package_is_an_error_of_the_input(small_run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytorch_lightning.callbacks.device_stats_monitor._PSUTIL_AVAILABLE", False)
    run = build_run(parse_settings([*small_run, "--trainer.callbacks+=DeviceStatsMonitor"]))
    with pytest.raises(InputError, match="pip install psutil"):
        train(run)
    assert not folder_of(run).exists()  # nothing was trained


def test_a_batch_of_changing_size_is_refused(small_run: list[str], tmp_path: Path) -> None:
    named = {"class_path": "GradientAccumulationScheduler", "init_args": {"scheduling": {0: 2}}}
    config = tmp_path / "scheduler.yaml"
    config.write_text(yaml.safe_dump({"trainer": {"callbacks": [named]}}))
    with pytest.raises(InputError, match="accumulate_grad_batches"):
        build_run(parse_settings([f"--config={config}", *small_run]))
