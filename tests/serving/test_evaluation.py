"""A run scored from its folder alone gives the numbers that training wrote, to the last digit."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from finished import call, finish, read_metrics, small_flags
from statsmodels.stats.proportion import proportion_confint

from project.data.loaders import EVALUATION_BATCH
from project.errors import InputError
from project.serving.evaluation import evaluate
from project.serving.restore import restore

TASKS = {
    "multiclass": ["--data.normalization=feature_standardize", "--data.augmentation=[shift, mixup]"],
    "binary": ["--model.task=binary", "--data.classes=[2, 0]"],
    "regression": ["--model.task=regression", "--data.target=rotation", "--data.num_train=100"],
}


@pytest.fixture(scope="module", params=TASKS)
def run(request: pytest.FixtureRequest, idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of each task, moved away from where it was trained."""
    base = tmp_path_factory.mktemp(request.param)
    seeds = ["--seed_everything=3", "--data.split_seed=4"]
    folder = finish(*small_flags(idx_folder, base / "runs"), *TASKS[request.param], *seeds)
    moved = base / "elsewhere" / "renamed"
    moved.parent.mkdir()
    shutil.move(folder, moved)
    shutil.rmtree(base / "runs")
    return moved


def of_split(metrics: dict[str, Any], split: str) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if name.startswith(f"{split}/")}


def num_test(metrics: dict[str, Any]) -> int:
    return sum(map(sum, metrics["test/confusion_matrix"]))


@pytest.mark.parametrize("split", ["test", "validation"])
def test_the_same_numbers_as_training(run: Path, split: Any) -> None:
    found = evaluate(restore(run), split, "cpu")
    expected = of_split(read_metrics(run), split)
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
    assert evaluate(again, "test", "cpu")["test/loss"] == read_metrics(run)["test/loss"]


def test_all_settings_come_back(run: Path) -> None:
    restored = restore(run)
    assert (restored.datamodule.settings.split_seed, restored.datamodule.seed) == (4, 3)
    assert (restored.folder, restored.checkpoint) == (run, run / "checkpoints" / "best.ckpt")
    origin = json.loads((run / "provenance.json").read_text())
    assert restored.datamodule.split_sha256 == origin["data"]["split_sha256"]
    assert torch.equal(restored.module.normalization.shift, restored.datamodule.normalization.shift)


@pytest.mark.parametrize("split", ["test", "validation", "train"])
def test_json(run: Path, capsys: pytest.CaptureFixture[str], split: str) -> None:
    said = call(capsys, "evaluate", run, "--json", "--split", split, "--accelerator", "cpu")
    assert len(said.out.splitlines()) == 1
    assert of_split(said.json, split) == said.json
    expected = of_split(read_metrics(run), split)  # nothing for the training split
    assert {name: said.json[name] for name in expected} == expected


def test_tables(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, metrics = call(capsys, "evaluate", run, "--accelerator=cpu").out, read_metrics(run)
    assert f"{metrics['test/loss']:.4f}" in text
    if "test/rmse" in metrics:
        assert "Confusion" not in text
        return
    num = num_test(metrics)
    low, high = proportion_confint(round(metrics["test/accuracy"] * num), num, method="wilson")
    assert all(f"{share:.2%}" in text for share in (metrics["test/accuracy"], low, high))
    names = list(metrics["test/class_accuracy"])
    for name, row in zip(names, metrics["test/confusion_matrix"], strict=True):
        share = row[names.index(name)] / sum(row)
        assert any(line.split()[1] == name and f"{share:.1%}" in line for line in text.splitlines() if "%" in line[20:])


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


@pytest.mark.parametrize("flag", ["--data.num_validation=0", "--trainer.precision=bf16-mixed"])
def test_other_settings_come_back(flag: str, small_run: list[str]) -> None:
    restored = restore(finish(*small_run, flag, "--trainer.max_epochs=1"))
    assert evaluate(restored, "test", "cpu")["test/loss"] == restored.metrics["test/loss"]
    if "precision" in flag:
        assert restored.trainer["precision"] == "bf16-mixed"
    else:
        with pytest.raises(InputError, match=r"data\.num_validation"):
            evaluate(restored, "validation", "cpu")


def test_a_split_larger_than_one_forward_pass(real_data: Path, tmp_path: Path) -> None:
    flags = [f"--data.root={real_data}", "--data.download=false", "--trainer.max_steps=20", "--model.width=32"]
    run = restore(finish("--data.dataset=fashion_mnist", f"--run_root={tmp_path}", *flags))
    found = evaluate(run, "test", "cpu")
    assert num_test(found) == 10_000 > EVALUATION_BATCH
    assert {name: found[name] for name in ("test/accuracy", "test/loss")}.items() <= run.metrics.items()


def test_the_command_prints_nothing_else(small_run: list[str], tmp_path: Path) -> None:
    run = finish(*small_run, "--trainer.max_epochs=1")
    command = [sys.executable, str(ROOT / "scripts" / "evaluate.py"), str(run), "--json", "--accelerator", "cpu"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=True)
    assert json.loads(said.stdout)["test/accuracy"] == read_metrics(run)["test/accuracy"]
    assert said.stderr == ""
