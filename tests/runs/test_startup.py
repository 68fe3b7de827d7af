"""Ctrl-C in the first seconds: one line and status 130, whatever is being imported at that moment."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

HOOK = """
import os, signal, sys
def hook(event, arguments):
    if event == "import" and arguments[0] == os.environ["STOP_AT"]:
        os.environ["STOP_AT"] = "never"
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(hook)
"""
"""Put before a program, sends it Ctrl-C when it begins to import a module."""
SCRIPTS = sorted(path.stem for path in (ROOT / "scripts").glob("*.py"))
WORDS = {
    "train": ["--data.download=false", "--data.root=gone"],
    "diagnose": ["--data.download=false", "--data.root=gone"],
    "export": ["gone", "--to=onnx"],
    "predict": ["gone", "-"],
}


def interrupted(script: str, module: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    (folder / "sitecustomize.py").write_text(HOOK)
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": path, "STOP_AT": module}
    command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), *WORDS.get(script, ["gone"])]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("module", ["project.errors", "jsonargparse", "yaml"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_ctrl_c_while_a_script_begins(script: str, module: str, tmp_path: Path) -> None:
    ended = interrupted(script, module, tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "stopped by SIGINT\n")


@pytest.mark.slow
@pytest.mark.parametrize("module", ["torch", "numpy", "pytorch_lightning", "rich.console"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_ctrl_c_while_libraries_are_imported(script: str, module: str, tmp_path: Path) -> None:
    ended = interrupted(script, module, tmp_path)
    if ended.returncode == 2 and "error: " in ended.stderr:
        pytest.skip("refused before it imports this")
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "stopped by SIGINT\n")


def test_calling_a_script_from_another_program_leaves_its_ctrl_c_alone(tmp_path: Path) -> None:
    path = str(ROOT / "scripts" / "train.py")
    code = (
        # a background job ignores Ctrl-C, and so does what it starts
        "import runpy, signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"runpy.run_path({path!r})\nprint(signal.getsignal(signal.SIGINT).__name__)"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ended.stdout == "default_int_handler\n", ended.stderr
