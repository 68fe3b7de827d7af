"""Run folders that earlier states of the project wrote: they are read as before, or refused with the reason.

Nothing was released yet, so `tests/old_runs` has the run folders of two commits, each the small data set's, one epoch
of a network with one hidden layer of 4 units: 69a3a03 is the first that trained at all, ea24a8c the first whose runs
can be resumed. In both the weights are named `mlp.…`. A release adds a folder of its own.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from finished import call, read_metrics
from PIL import Image

OLD_RUNS = sorted(path for path in (ROOT / "tests" / "old_runs").iterdir() if path.is_dir())
RESUMABLE = {"69a3a03": False, "ea24a8c": True}


@pytest.fixture(params=OLD_RUNS, ids=lambda path: path.name)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = tmp_path / "idx" / request.param.name
    shutil.copytree(request.param, folder)
    return folder


def test_the_folders_are_there_and_small() -> None:
    assert {path.name for path in OLD_RUNS} == set(RESUMABLE)
    files = [path for folder in OLD_RUNS for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 60_000


def test_an_old_run_is_evaluated(old: Path, idx_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To the same numbers as then."""
    words = [old, "--json", "--accelerator=cpu", "--data_root", idx_folder]
    found, then = call(capsys, "evaluate", *words).json, read_metrics(old)
    for name, value in found.items():
        if isinstance(value, float):
            assert value == pytest.approx(then[name], abs=1e-5), name
    assert found["test/confusion_matrix"] == then["test/confusion_matrix"]


def test_an_old_run_predicts(old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (9, 8), 40).save(tmp_path / "a.png")
    (found,) = call(capsys, "predict", old, tmp_path / "a.png", "--format=json").json
    assert found["class"] in (0, 1, 2)


def test_an_old_run_is_exported(old: Path, idx_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, "export", old, "--to", "torch_export", "--data_root", idx_folder)
    assert said.status == 0, said.err
    assert (old / "export" / "model.pt2").is_file()


def test_an_old_run_is_resumed_or_refused(old: Path, idx_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = torch.load(old / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    words = ["--resume", old, f"--data.root={idx_folder}", "--trainer.max_epochs=2"]
    said = call(capsys, "train", *words)
    if not RESUMABLE[old.name]:
        assert (said.status, len(said.err.splitlines())) == (2, 2)
        assert "RunCheckpoint" in said.err  # what it lacks
        return
    assert said.status == 0, said.err
    assert (read_metrics(old)["status"], read_metrics(old)["epochs"]) == ("completed", 2)
    assert torch.load(old / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] > before
    assert len(json.loads((old / "provenance.json").read_text())["resumed"]) == 1
