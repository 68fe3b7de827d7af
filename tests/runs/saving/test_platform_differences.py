"""Windows: what it lacks is named in one module alone, and a training runs without it."""

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from conftest import ROOT

from project.errors import InputError
from project.runs.build import build_run
from project.runs.parser import parse_settings
from project.runs.saving import platform_differences
from project.runs.saving.checkpointing import load_checkpoint
from project.runs.saving.files import read_json
from project.runs.saving.platform_differences import process_exists
from project.runs.saving.run_folder import lock_run_folder

ONE_MODULE = ROOT / "project" / "runs" / "saving" / "platform_differences.py"
MODULES = {"fcntl", "grp", "msvcrt", "posix", "pwd", "resource", "syslog", "termios", "tty", "winreg"}
"""Modules of the standard library that Linux or Windows does not have."""
NAMES = {
    "os": "fork forkpty getegid geteuid getgid getloadavg getpgid getpgrp getppid getsid getuid kill killpg mkfifo "
    "nice register_at_fork sched_getaffinity set_blocking setsid sysconf uname wait wait3 wait4",
    "signal": "SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGUSR1 SIGUSR2 alarm pause setitimer "
    "pthread_kill pthread_sigmask sigwait",
}
"""What these two do not have on Windows, or what does something else there."""


def differences_named(source: str) -> set[str]:
    """Every name in a source text that does not mean the same on all systems."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module)} & MODULES
            found |= {alias.name for alias in node.names} & set(NAMES.get(str(node.module), "").split())
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found |= {node.attr} & set(NAMES.get(node.value.id, "").split())
    return found


def test_one_module_alone_names_them() -> None:
    paths = [*(ROOT / "project").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]
    assert len(paths) >= 80
    assert differences_named(ONE_MODULE.read_text(encoding="utf-8")) >= {"getppid", "kill", "register_at_fork"}
    for path in paths:
        if path != ONE_MODULE:
            assert differences_named(path.read_text(encoding="utf-8")) == set(), path


def test_such_a_name_is_found() -> None:
    assert differences_named("import fcntl") == {"fcntl"}
    assert differences_named("def f():\n    from os import fork, path") == {"fork"}
    assert differences_named("stop = signal.SIGHUP") == {"SIGHUP"}


WINDOWS = """
import errno, os, runpy, signal, stat, sys
import optuna, pytorch_lightning, tensorboard, torch  # they ask which system it is, and take what Linux has

for name in "fcntl grp pwd resource termios".split():
    sys.modules[name] = None  # importing it fails
for name in "SIGALRM SIGHUP SIGKILL SIGUSR1 SIGUSR2".split():
    delattr(signal, name)
for name in "fork forkpty geteuid getpgid getuid killpg register_at_fork setsid".split():
    delattr(os, name)

# neither a folder nor a file that is open for reading alone can be flushed
real_open, real_fsync, for_reading = os.open, os.fsync, set()

def windows_open(path, flags, *args, **kwargs):
    descriptor = real_open(path, flags, *args, **kwargs)
    if stat.S_ISDIR(os.fstat(descriptor).st_mode) and sys._getframe(1).f_globals["__name__"].startswith("project."):
        raise PermissionError(errno.EACCES, "Permission denied", path)
    (for_reading.discard if flags & (os.O_WRONLY | os.O_RDWR) else for_reading.add)(descriptor)
    return descriptor

def windows_fsync(descriptor):
    if descriptor in for_reading:
        raise OSError(errno.EBADF, "Bad file descriptor")
    real_fsync(descriptor)

os.open, os.fsync = windows_open, windows_fsync

import project.studies.read_study, project.serving.restore
import project.runs.saving.platform_differences as differences

class Windows:
    name = "nt"
    def __getattr__(self, name):
        return getattr(os, name)

differences.os = Windows()
assert differences.fcntl is None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_training_without_what_windows_lacks(small_run: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-c", WINDOWS, str(ROOT / "scripts" / "train.py"), *small_run, "--run_name=x"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "runs" / "idx" / "x"
    assert read_json(folder / "metrics.json")["status"] == "completed"
    names = {path.name for path in folder.iterdir()}
    assert {"checkpoints", "config.yaml", "metrics.json", "model.txt", "provenance.json", "train.log"} <= names
    assert not [name for name in names if "lock" in name]
    for name in ("best", "last", "previous"):
        assert load_checkpoint(folder / "checkpoints" / f"{name}.ckpt")["global_step"] > 0
    assert not list(folder.rglob("*.part"))


def windows_locks() -> Any:
    """Windows' module for locks, made from this system's: refused with Windows' own error, and only at one byte."""
    import fcntl

    def locking(descriptor: int, mode: int, num_bytes: int) -> None:
        assert (mode, num_bytes) == (2, 1)
        assert os.lseek(descriptor, 0, os.SEEK_CUR) > os.fstat(descriptor).st_size
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(13, "Permission denied") from None

    return SimpleNamespace(LK_NBLCK=2, locking=locking)


HOLD = """
import sys, time
from pathlib import Path
from project.runs.saving.run_folder import lock_run_folder
lock_run_folder(Path(sys.argv[1]))
print("locked", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("windows", [False, True], ids=["here", "windows"])
def test_a_run_folder_is_locked_until_its_process_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, windows: bool
) -> None:
    """However it ends, and without a file that is left behind."""
    if windows:
        monkeypatch.setattr(platform_differences, "msvcrt", windows_locks())
        monkeypatch.setattr(platform_differences, "fcntl", None)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(InputError):
            lock_run_folder(tmp_path)
        process.kill()
    descriptor = lock_run_folder(tmp_path)
    assert not os.get_inheritable(descriptor)
    with pytest.raises(InputError):
        lock_run_folder(tmp_path)
    os.close(descriptor)
    assert [path.name for path in tmp_path.iterdir()] == ["train.log"]


def test_a_folder_is_unlocked_before_it_is_removed(small_run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is when a callback is refused: Windows removes no file that is open."""
    removed: list[Path] = []

    def remove(folder: Path) -> None:
        os.close(lock_run_folder(folder))
        removed.append(folder)

    monkeypatch.setattr("shutil.rmtree", remove)
    with pytest.raises(InputError):
        build_run(parse_settings([*small_run, "--trainer.callbacks+=BatchSizeFinder"]))
    assert len(removed) == 1


def test_a_system_without_locks_locks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: ModuleType | None = None
    monkeypatch.setattr(platform_differences, "fcntl", nothing)
    monkeypatch.setattr(platform_differences, "msvcrt", nothing)
    os.close(lock_run_folder(tmp_path))


def test_which_processes_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    assert process_exists(os.getpid())
    assert process_exists(ended.pid)
    ended.wait()
    assert not process_exists(ended.pid)
    # where signal 0 would be Ctrl-C nobody is asked
    monkeypatch.setattr(platform_differences, "os", SimpleNamespace(name="nt"))
    assert process_exists(ended.pid)


def test_signals_that_there_are() -> None:
    assert platform_differences.STOP_SIGNALS == (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
