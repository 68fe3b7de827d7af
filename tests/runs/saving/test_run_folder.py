"""What a run leaves behind, field by field, and that no two runs share a folder."""

import json
import logging
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import ROOT
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from project.data.sources.load import load_dataset
from project.errors import InputError
from project.runs.build import Run, build_run
from project.runs.parser import parse_settings
from project.runs.saving.files import write_json
from project.runs.saving.run_folder import find_run_folder, new_run_folder
from project.runs.train import train
from project.settings import finite


@pytest.fixture(scope="module")
def run(idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run."""
    flags = ["--data.dataset=idx", f"--data.root={idx_folder}", "--data.num_validation=40", "--data.batch_size=32"]
    more = ["--model.width=[16, 8]", "--model.norm=layer", "--trainer.max_epochs=3", "--trainer.accelerator=cpu"]
    root = tmp_path_factory.mktemp("runs")
    seeds = ["--seed_everything=6", "--data.split_seed=2", "--trainer.log_every_n_steps=2", f"--run_root={root}"]
    logger = logging.getLogger("project")
    level = logger.level
    logger.setLevel(logging.INFO)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["scripts/train.py", "--model.width", "[16, 8]"])
        cli = build_run(parse_settings([*flags, *more, *seeds]))
        train(cli)
    logger.setLevel(level)
    return cli


def strictly(text: str) -> Any:
    """Parse JSON, which has no NaN and no Infinity."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_what_is_in_it(run: Run) -> None:
    names = {path.name for path in run.folder.iterdir() if not path.name.startswith("events.")}
    expected = {"config.yaml", "provenance.json", "metrics.json", "model.txt", "train.log", "checkpoints"}
    assert expected <= names
    assert {"best.ckpt", "last.ckpt"} <= {path.name for path in (run.folder / "checkpoints").iterdir()}
    assert not [name for name in names if name.endswith(".part")]
    assert run.folder.parent.name == "idx"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_[0-9a-f]{6}", run.folder.name)


def test_metrics(run: Run) -> None:
    metrics = strictly((run.folder / "metrics.json").read_text())
    assert metrics["status"] == "completed"
    assert (metrics["epochs"], metrics["steps"]) == (3, 18)
    assert metrics["train_seconds"] > 0
    assert metrics["examples_per_second"] == pytest.approx(18 * 32 / metrics["train_seconds"])
    # 8 × 9 pixels, layer norm with a scale and a shift for each unit
    assert metrics["parameters"] == 72 * 16 + 16 + 2 * 16 + 16 * 8 + 8 + 2 * 8 + 8 * 3 + 3
    assert set(metrics["best"]) == {"epoch", "validation/loss", "validation/accuracy"}
    assert metrics["best"]["epoch"] in (1, 2, 3)
    for split, num in (("validation", 40), ("test", 57)):
        assert metrics[f"{split}/loss"] > 0
        confusion = metrics[f"{split}/confusion_matrix"]
        assert sum(map(sum, confusion)) == num
        assert metrics[f"{split}/accuracy"] == sum(confusion[i][i] for i in range(3)) / num
        assert list(metrics[f"{split}/class_accuracy"]) == ["0", "1", "2"]
        for name in ("accuracy", "macro_f1", "calibration_error"):
            assert 0 <= metrics[f"{split}/{name}"] <= 1
    assert metrics["verdict"].endswith(".")


def test_provenance(run: Run, idx_folder: Path) -> None:
    origin = strictly((run.folder / "provenance.json").read_text())
    assert origin["command"].endswith("scripts/train.py --model.width '[16, 8]'")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}", origin["started"])
    assert origin["seeds"] == {"seed_everything": 6, "split_seed": 2}
    assert origin["versions"]["torch"] == version("torch")
    assert origin["versions"]["pytorch-lightning"] == version("pytorch-lightning")
    assert origin["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert origin["hardware"]["torch_threads"] == torch.get_num_threads()
    assert origin["data"]["name"] == "idx"
    assert origin["data"]["sha256"] == load_dataset("idx", idx_folder).sha256
    assert set(origin["data"]["split_sha256"]) == {"train", "validation", "test"}
    checkout = ROOT
    if (checkout / ".git").exists():
        said = subprocess.run(["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        assert re.fullmatch(r"[0-9a-f]{40}", origin["git_commit"])
        assert len(origin["git_commit"]) == len(said.stdout.strip())
        assert isinstance(origin["git_diff"], str)


def test_layer_table(run: Run) -> None:
    lines = (run.folder / "model.txt").read_text().splitlines()
    total = sum(p.numel() for p in run.module.parameters())
    assert re.fullmatch(rf"total +{total:,}", lines[-1])
    counts = [int(re.search(r"\) +([\d,]+)", line)[1].replace(",", "")) for line in lines[1:-1]]
    assert sum(counts) == total
    linear = [line.split() for line in lines if "linear" in line]
    assert [row[-5:] for row in linear] == [
        ["16)", "1,168", "72·16", "+", "16"],
        ["8)", "136", "16·8", "+", "8"],
        ["3)", "27", "8·3", "+", "3"],
    ]


def test_settings_are_complete(run: Run) -> None:
    saved = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert saved["model"]["width"] == [16, 8]
    assert saved["model"]["dropout"] == 0.2  # a default
    assert saved["trainer"]["max_epochs"] == 3
    assert saved["seed_everything"] == 6


def test_log(run: Run) -> None:
    text = (run.folder / "train.log").read_text()
    assert [int(n) for n in re.findall(r"epoch (\d+) of 3", text)] == [1, 2, 3]


def test_tensorboard_has_what_was_measured(run: Run) -> None:
    events = EventAccumulator(str(run.folder))
    events.Reload()
    tags = events.Tags()["scalars"]
    for name in ("train/loss", "train/accuracy", "validation/loss", "validation/accuracy"):
        split, quantity = name.split("/")
        values = [event.value for event in events.Scalars(f"curves/{quantity}/{split}")]
        assert values == pytest.approx([record[name] for record in run.module.history], rel=1e-6)
    steps = [event.step for event in events.Scalars("curves/loss/train_step")]
    assert len(steps) == 9
    assert len(set(steps)) == 9
    assert "curves/optimizer/learning_rate" in tags
    assert "epoch" not in tags
    metrics = json.loads((run.folder / "metrics.json").read_text())
    assert events.Scalars("test/accuracy")[-1].value == pytest.approx(metrics["test/accuracy"])


def test_find_run_folder(run: Run, tmp_path: Path) -> None:
    for inside in (".", "checkpoints", "checkpoints/best.ckpt", "config.yaml"):
        assert find_run_folder(run.folder / inside).resolve() == run.folder.resolve()
    for wrong in (tmp_path, tmp_path / "nothing", run.folder.parent):
        with pytest.raises(InputError, match=r"config\.yaml"):
            find_run_folder(wrong)


def test_threads_get_a_folder_each(tmp_path: Path) -> None:
    with ThreadPoolExecutor(20) as pool:
        folders = list(pool.map(lambda _: new_run_folder(tmp_path, "idx", None), range(200)))
    assert len(set(folders)) == 200 == len(list((tmp_path / "idx").iterdir()))


def test_one_of_many_gets_a_name(tmp_path: Path) -> None:
    def claim(_: int) -> str:
        try:
            return str(new_run_folder(tmp_path, "idx", "mine"))
        except InputError as error:
            return error.remedy

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(claim, range(20)))
    assert answers.count(str(tmp_path / "idx" / "mine")) == 1
    assert sum("--run_name" in answer for answer in answers) == 19


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/tmp/x", "x" * 300])  # noqa: S108
def test_names_that_make_no_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError):
        new_run_folder(tmp_path, "idx", name)
    assert not list((tmp_path / "idx").iterdir() if (tmp_path / "idx").exists() else ())


def test_json_is_whole_and_has_no_nan(tmp_path: Path) -> None:
    content = {"a": float("nan"), "b": [1.5, float("inf"), {"c": -float("inf")}], "d": "NaN", "e": [[1, 2], [3, 4]]}
    path = tmp_path / "x.json"
    write_json(path, content)
    assert strictly(path.read_text()) == {"a": None, "b": [1.5, None, {"c": None}], "d": "NaN", "e": [[1, 2], [3, 4]]}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
    assert "[1, 2]" in path.read_text()  # a matrix's row on one line
    with pytest.raises(TypeError):
        write_json(path, {"not plain": object()})
    assert strictly(path.read_text())["d"] == "NaN"  # what was there stays
    assert finite(1.5) == 1.5
