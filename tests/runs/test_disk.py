"""Where the disk ends: a full one, one that cannot be written, one that is gone; names that are no text."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from finished import Said, call, finish, stop
from pytorch_lightning import Callback, Trainer

from project.runs.build import build_run
from project.runs.command import run_command
from project.runs.parser import parse_settings
from project.runs.train import train

FULL = Path("/dev/full")


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[str], object]]:
    """A disk of its own in a folder, and a function that mounts it with another option; only root can."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o"]
    made = shutil.which("mount") and subprocess.run(
        [*mount, f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if not made or made.returncode:
        pytest.skip("this user or system cannot mount a disk")
    try:
        yield lambda option: subprocess.run([*mount, f"remount,{option}", str(folder)], check=True)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def two_lines(said: Said, status: int) -> None:
    assert said.status == status, said.err
    error, fix = said.err.splitlines()[-2:]
    assert error.startswith("error: ")
    assert fix.startswith("  fix: ")
    assert "Traceback" not in said.err


def program(code: str, out: Any = subprocess.PIPE, **changed: str) -> "subprocess.CompletedProcess[str]":
    """A command as a script runs it, in a process of its own."""
    code = f"import os, signal\nfrom project.runs.command import run_command\n{code}"
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return subprocess.run(
        [sys.executable, "-c", code],
        stdout=out,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path} | changed,
        timeout=60,
    )


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["print('x')", "print('x' * 100_000)", "Parser().parse_args(['--help'])"])
def test_output_that_cannot_be_written_is_a_failure(command: str, unbuffered: str) -> None:
    code = f"from project.runs.parser import Parser\nrun_command(lambda: {command})"
    with FULL.open("w") as full:
        ended = program(code, full, PYTHONUNBUFFERED=unbuffered)
    two_lines(Said(ended.returncode, "", ended.stderr), 1)


def test_a_name_that_is_no_text_is_shown() -> None:
    ended = program(r"run_command(lambda: print('a\udcffb'))", PYTHONUTF8="1")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "a\\udcffb\n", "")


def test_a_terminal_that_knows_few_letters_is_no_failure() -> None:
    ended = program(r"run_command(lambda: print('\u2501 \u1ec7'))", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_program_that_nohup_started_goes_on_after_its_terminal() -> None:
    code = "signal.signal(signal.SIGHUP, {})\nrun_command(lambda: os.kill(os.getpid(), signal.SIGHUP))"
    assert program(code.format("signal.SIG_IGN")).returncode == 0
    ended = program(code.format("signal.SIG_DFL"))
    assert (ended.returncode, ended.stderr) == (143, "stopped by SIGHUP\n")


def test_an_error_that_a_library_makes_of_an_interruption_is_one() -> None:
    code = """
def command():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        signal.pause()
    except Exception:
        {}
run_command(command)"""
    for instead in ("raise ImportError('no multiarray')", "pass"):
        ended = program(code.format(instead))
        assert (ended.returncode, ended.stderr) == (130, "stopped by SIGINT\n")


@pytest.mark.parametrize("size", ["8k", "100k"])
def test_a_full_disk_stops_a_run(size: str, small_run: list[str], tmp_path: Path, capfd: Any) -> None:
    with small_disk(tmp_path / "disk", size):
        said = call(capfd, "train", *small_run, f"--run_root={tmp_path / 'disk'}", "--run_name=r")
        two_lines(said, 1 if size == "100k" else said.status)
        assert said.status in (1, 2)


def test_a_run_on_a_disk_that_cannot_be_written_is_not_resumed(
    small_run: list[str], tmp_path: Path, capfd: Any
) -> None:
    with small_disk(tmp_path / "disk", "50m") as remount:
        folder = stop([*small_run, f"--run_root={tmp_path / 'disk'}", "--checkpoint_every_n_steps=1"], 3)
        remount("ro")
        two_lines(call(capfd, "train", f"--resume={folder}"), 2)
        remount("rw")
        assert call(capfd, "train", f"--resume={folder}").status == 0


class Remove(Callback):
    """Delete the run folder in the middle of an epoch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 3:
            shutil.rmtree(self.folder)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the next test is about it
def test_a_run_folder_that_is_deleted_stops_the_run(
    small_run: list[str], monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    run = build_run(parse_settings(small_run))
    assert run.folder is not None
    run.trainer.callbacks.insert(0, Remove(run.folder))  # type: ignore[attr-defined]
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(SystemExit) as leaving:
        run_command(lambda: int(not train(run)))
    two_lines(Said(int(str(leaving.value.code)), *capfd.readouterr()), 1)


def test_the_thread_that_writes_scalars_prints_no_traceback(tmp_path: Path) -> None:
    code = f"""
from tensorboard.summary.writer.event_file_writer import EventFileWriter
import contextlib, shutil
def command():
    writer = EventFileWriter({str(tmp_path / "events")!r})
    shutil.rmtree({str(tmp_path / "events")!r})
    writer._async_writer.write(b"x")
    writer._async_writer.flush()
run_command(command)"""
    ended = program(code)
    two_lines(Said(ended.returncode, "", ended.stderr), 1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems' files have texts as names")
def test_predict_keeps_the_other_answers(small_run: list[str], tmp_path: Path) -> None:
    from PIL import Image

    folder, pictures = finish(*small_run), tmp_path / "pictures"
    pictures.mkdir()
    Image.new("L", (9, 8), 99).save(pictures / "good.png")
    shutil.copy(os.fsencode(pictures / "good.png"), os.fsencode(pictures) + b"/\xff.png")
    Path(os.fsdecode(os.fsencode(pictures) + b"/\xfe.png")).write_bytes(b"no picture")
    for kind in ("table", "csv", "json"):
        command = [sys.executable, str(ROOT / "scripts" / "predict.py"), str(folder), str(pictures), f"--format={kind}"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert ended.returncode == 1
        assert "Traceback" not in ended.stderr
        assert "good.png" in ended.stdout
        assert "udcff.png" in ended.stdout
        assert "1 of 3" in ended.stderr
