"""A folder of colour pictures from training to export, each by one command, as a user types them."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, make_picture_folder


def typed(script: str, *words: object) -> str:
    command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_each_by_one_command(tmp_path: Path) -> None:
    photos = make_picture_folder(tmp_path / "photos", 60)
    data = ["--data.dataset=folder", f"--data.root={photos}", "--data.size=24"]
    fast = ["--data.batch_size=8", "--model.width=32", "--trainer.max_epochs=5", "--trainer.accelerator=cpu"]
    typed("train", *data, *fast, "--run_name=a", f"--run_root={tmp_path / 'runs'}")
    run = tmp_path / "runs" / "folder" / "a"
    metrics: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    assert metrics["test/accuracy"] > 0.8
    typed("evaluate", run, "--accelerator=cpu")
    found = json.loads(typed("predict", run, photos / "green", "--format=json"))
    assert len(found) == 20
    assert sum(one["name"] == "green" for one in found) >= 17
    typed("diagnose", "--data", *data, "--data.batch_size=8")
    if all(map(importlib.util.find_spec, ("onnx", "onnxscript", "onnxruntime"))):
        typed("export", run, "--to=onnx")
        assert (run / "export" / "model.onnx").stat().st_size > 1000
    typed("export", run, "--to=torch_export")
    assert not list(photos.rglob("*.part"))
