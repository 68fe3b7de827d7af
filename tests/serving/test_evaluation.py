"""A run scored from its folder alone gives the numbers that training wrote, to the last digit."""

import json
import math
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from statsmodels.stats.proportion import proportion_confint

from project.data.loaders import EVALUATION_BATCH
from project.errors import InputError
from project.runs.build import build_run
from project.runs.parser import parse_settings
from project.runs.train import train
from project.serving.evaluation import evaluate
from project.serving.restore import restore

SCRIPT = ROOT / "scripts" / "evaluate.py"
TASKS = {
    "multiclass": ["--data.normalization=feature_standardize", "--data.augmentation=[shift, mixup]"],
    "binary": ["--model.task=binary", "--data.classes=[2, 0]"],
    "regression": ["--model.task=regression", "--data.target=rotation", "--data.num_train=100"],
}


@pytest.fixture(scope="module", params=TASKS)
def run(request: pytest.FixtureRequest, idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of each task, moved away from where it was trained."""
    base = tmp_path_factory.mktemp(request.param)
    flags = ["--data.dataset=idx", f"--data.root={idx_folder}", "--data.num_validation=40", "--data.batch_size=32"]
    more = ["--model.width=16", "--trainer.max_epochs=2", "--trainer.accelerator=cpu", f"--run_root={base / 'runs'}"]
    more += ["--trainer.log_every_n_steps=2"]
    cli = build_run(
        parse_settings([*flags, *more, *TASKS[request.param], "--seed_everything=3", "--data.split_seed=4"])
    )
    train(cli)
    moved = base / "elsewhere" / "renamed"
    moved.parent.mkdir()
    shutil.move(cli.folder, moved)
    shutil.rmtree(base / "runs")
    return moved


def written(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "metrics.json").read_text()))


@pytest.mark.parametrize("split", ["test", "validation"])
def test_the_same_numbers_as_training(run: Path, split: Any) -> None:
    found = evaluate(restore(run), split, "cpu")
    expected = {name: value for name, value in written(run).items() if name.startswith(f"{split}/")}
    interval = found.pop(f"{split}/accuracy_interval", None)
    assert found == expected
    assert (interval is None) == (f"{split}/rmse" in expected)


def test_the_training_split_is_scored_without_augmentation_and_dropout(run: Path) -> None:
    restored = restore(run)
    found = evaluate(restored, "train", "cpu")
    assert found == evaluate(restore(run), "train", "cpu")
    num = len(restored.datamodule.splits["train"])
    assert len(restored.module.evaluated[1]) == num
    if "train/confusion_matrix" in found:
        assert sum(map(sum, found["train/confusion_matrix"])) == num
        data, chosen = restored.datamodule, restored.datamodule.splits["train"]
        decided = restored.module.eval()(data.data.train.images[chosen])  # the pictures as they are in the file
        decided = decided.argmax(1) if decided.shape[1] > 1 else (decided[:, 0] > 0).long()
        hits = decided == data.targets("train")[chosen]
        assert found["train/accuracy"] == hits.double().mean().item()


def test_a_checkpoint_inside_the_run(run: Path) -> None:
    best = evaluate(restore(run / "checkpoints" / "best.ckpt"), "test", "cpu")
    assert best == evaluate(restore(run), "test", "cpu")
    last = restore(run / "checkpoints" / "last.ckpt")
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(value, state[name]) for name, value in last.module.state_dict().items())
    assert evaluate(last, "test", "cpu")["test/loss"] > 0


def test_data_that_have_moved(run: Path, idx_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(idx_folder, tmp_path / "there")
    again = restore(run, data_root=tmp_path / "there")
    assert again.datamodule.settings.root == str(tmp_path / "there")
    assert evaluate(again, "test", "cpu")["test/loss"] == written(run)["test/loss"]


def test_all_settings_come_back(run: Path) -> None:
    restored = restore(run)
    assert restored.datamodule.settings.split_seed == 4
    assert restored.datamodule.seed == 3
    assert restored.folder == run
    assert restored.checkpoint == run / "checkpoints" / "best.ckpt"
    origin = json.loads((run / "provenance.json").read_text())
    assert restored.datamodule.split_sha256 == origin["data"]["split_sha256"]
    mean = restored.datamodule.normalization.shift
    assert torch.equal(restored.module.normalization.shift, mean)


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The script's main function, called with flags."""

    def call(*flags: str) -> None:
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *flags, "--accelerator", "cpu"])
        runpy.run_path(str(SCRIPT))["main"]()

    return call


@pytest.mark.parametrize("split", ["test", "validation", "train"])
def test_json(run: Path, main: Callable[..., None], capsys: pytest.CaptureFixture[str], split: str) -> None:
    main(str(run), "--json", "--split", split)
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == 1
    found = json.loads(printed)
    assert all(name.startswith(f"{split}/") for name in found)
    if split != "train":
        assert {name: found[name] for name in written(run) if name.startswith(f"{split}/")} == {
            name: value for name, value in written(run).items() if name.startswith(f"{split}/")
        }


def test_tables(run: Path, main: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    main(str(run))
    text, metrics = capsys.readouterr().out, written(run)
    assert f"{metrics['test/loss']:.4f}" in text
    if "test/rmse" in metrics:
        assert "root mean squared error" in text
        assert "Confusion" not in text
        return
    low, high = proportion_confint(
        round(metrics["test/accuracy"] * num_test(metrics)), num_test(metrics), method="wilson"
    )
    assert f"accuracy {metrics['test/accuracy']:.2%}, 95 % interval {low:.2%} to {high:.2%}" in text
    names = list(metrics["test/class_accuracy"])
    for name, row in zip(names, metrics["test/confusion_matrix"], strict=True):
        share = row[names.index(name)] / sum(row)
        assert any(line.split()[1] == name and f"{share:.1%}" in line for line in text.splitlines() if "%" in line[20:])


def num_test(metrics: dict[str, Any]) -> int:
    return sum(map(sum, metrics["test/confusion_matrix"]))


def test_interval(run: Path) -> None:
    found = evaluate(restore(run), "test", "cpu")
    if "test/accuracy" not in found:
        assert "test/accuracy_interval" not in found
        return
    num = num_test(found)
    hits = round(found["test/accuracy"] * num)
    low, high = found["test/accuracy_interval"]
    assert (low, high) == pytest.approx(proportion_confint(hits, num, 0.05, "wilson"), abs=1e-12)
    # and by hand, Wilson 1927
    z, p = 1.959963984540054, hits / num
    centre = (p + z**2 / (2 * num)) / (1 + z**2 / num)
    half = z / (1 + z**2 / num) * math.sqrt(p * (1 - p) / num + z**2 / (4 * num**2))
    assert (low, high) == pytest.approx((centre - half, centre + half), abs=1e-12)


def test_a_run_without_validation(small_run: list[str]) -> None:
    cli = build_run(parse_settings([*small_run, "--data.num_validation=0", "--trainer.max_epochs=1"]))
    train(cli)
    restored = restore(cli.folder)
    with pytest.raises(InputError, match="no validation split"):
        evaluate(restored, "validation", "cpu")
    assert evaluate(restored, "test", "cpu")["test/loss"] == written(cli.folder)["test/loss"]


def test_precision_comes_back(small_run: list[str]) -> None:
    cli = build_run(parse_settings([*small_run, "--trainer.precision=bf16-mixed", "--trainer.max_epochs=1"]))
    train(cli)
    restored = restore(cli.folder)
    assert restored.precision == "bf16-mixed"
    found = evaluate(restored, "test", "cpu")
    assert found["test/loss"] == written(cli.folder)["test/loss"]


def test_a_split_larger_than_one_forward_pass(real_data: Path, tmp_path: Path) -> None:
    flags = ["--data.dataset=fashion_mnist", f"--data.root={real_data}", "--data.download=false"]
    cli = build_run(
        parse_settings(
            [
                *flags,
                "--trainer.max_steps=20",
                "--model.width=32",
                "--trainer.accelerator=cpu",
                f"--run_root={tmp_path}",
            ]
        )
    )
    train(cli)
    found = evaluate(restore(cli.folder), "test", "cpu")
    assert num_test(found) == 10_000 > EVALUATION_BATCH
    assert found["test/accuracy"] == written(cli.folder)["test/accuracy"]
    assert found["test/loss"] == written(cli.folder)["test/loss"]


def test_the_command_prints_nothing_else(small_run: list[str], tmp_path: Path) -> None:
    cli = build_run(parse_settings([*small_run, "--trainer.max_epochs=1"]))
    train(cli)
    command = [sys.executable, str(SCRIPT), str(cli.folder), "--json", "--accelerator", "cpu"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=True)
    assert json.loads(said.stdout)["test/accuracy"] == written(cli.folder)["test/accuracy"]
    assert said.stderr == ""
