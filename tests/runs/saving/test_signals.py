"""Signals at any moment: saved, the right status, within five seconds, no process left, and resumed exactly."""

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from harness import Kill, Outcome, compare, metrics, run, run_processes

from project.runs.saving.platform_differences import STOP_SIGNALS
from project.runs.saving.signals import Interrupted, StopSignals

logging.getLogger("tensorboard").setLevel(logging.ERROR)

MAX_S = 5.0
STATUS = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 143, signal.SIGUSR1: 143}
MOMENTS = {
    "start": Kill("start", 1),
    "before the first step": Kill("step", 1),
    "mid-epoch": Kill("step", 9),
    "end of an epoch": Kill("step", 12),
    "validation": Kill("validation", 12),
    "last step": Kill("step", 18),
    "last validation": Kill("validation", 24),
    "end": Kill("test", 2),
}


@pytest.fixture
def flags(small_run: list[str], tmp_path: Path) -> list[str]:
    return [*small_run, "--trainer.max_epochs=3", f"--run_root={tmp_path}"]


def with_signal(kill: Kill, signum: int, rank: int = 0, group: bool = False) -> Kill:
    return Kill(kill.moment, kill.number, signum, rank, group)


def check_interrupted(folder: Path) -> None:
    """A run that had begun says that it was interrupted, and how to go on."""
    found = metrics(folder)
    assert found["status"] == "interrupted"
    assert not list(folder.rglob("*.part"))


@pytest.mark.parametrize(
    ("moment", "signum"),
    [("mid-epoch", signal.SIGTERM), ("validation", signal.SIGINT), ("end", signal.SIGUSR1), ("start", signal.SIGINT)],
)
def test_one_process(flags: list[str], tmp_path: Path, moment: str, signum: signal.Signals) -> None:
    printed = tmp_path / "x.txt"
    assert run([*flags, "--run_name=x"], printed, with_signal(MOMENTS[moment], signum)) == STATUS[signum]
    assert "Traceback" not in printed.read_text()
    if moment == "start":
        assert not (tmp_path / "idx").exists()
        return
    check_interrupted(tmp_path / "idx" / "x")
    assert f"--resume {tmp_path / 'idx' / 'x'}" in printed.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("signum", STOP_SIGNALS, ids=lambda signum: signum.name)
def test_interrupted_and_resumed(flags: list[str], tmp_path: Path, moment: str, signum: signal.Signals) -> None:
    assert run([*flags, "--run_name=unbroken"], tmp_path / "unbroken.txt") == 0
    again = [*flags, "--run_name=x", "--resume=auto"]
    assert run(again, tmp_path / "x.txt", with_signal(MOMENTS[moment], signum)) == STATUS[signum]
    if moment != "start":
        check_interrupted(tmp_path / "idx" / "x")
    assert run(again, tmp_path / "x.txt") == 0
    assert compare(tmp_path / "idx" / "x", tmp_path / "idx" / "unbroken") == []


def check_outcome(outcome: Outcome, signum: int, folder: Path, moment: str) -> None:
    assert outcome.status == STATUS[signal.Signals(signum)], outcome.printed
    assert outcome.seconds <= MAX_S
    assert outcome.left == []
    if moment != "start":
        check_interrupted(folder)


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("signum", STOP_SIGNALS, ids=lambda signum: signum.name)
def test_from_a_shell(flags: list[str], tmp_path: Path, moment: str, signum: signal.Signals) -> None:
    outcome = run_processes([*flags, "--run_name=x"], tmp_path, with_signal(MOMENTS[moment], signum))
    check_outcome(outcome, signum, tmp_path / "idx" / "x", moment)


@pytest.mark.slow
@pytest.mark.parametrize("group", [False, True], ids=["first", "all"])
@pytest.mark.parametrize("moment", [*MOMENTS, "rendezvous"])
@pytest.mark.parametrize("signum", STOP_SIGNALS, ids=lambda signum: signum.name)
def test_two_processes(flags: list[str], tmp_path: Path, moment: str, signum: signal.Signals, group: bool) -> None:
    kill = with_signal(MOMENTS.get(moment, Kill(moment, 1)), signum, group=group)
    # each of two processes scores half of the chunks, and meets each moment half as often
    if kill.moment in ("validation", "test"):
        kill = Kill(kill.moment, kill.number // 2, signum, 0, group)
    outcome = run_processes([*flags, "--trainer.devices=2", "--run_name=x"], tmp_path, kill)
    check_outcome(outcome, signum, tmp_path / "idx" / "x", moment)


@pytest.mark.slow
@pytest.mark.parametrize("signum", STOP_SIGNALS, ids=lambda signum: signum.name)
def test_a_signal_to_the_second_process_alone(flags: list[str], tmp_path: Path, signum: signal.Signals) -> None:
    kill = Kill("step", 9, signum, rank=1)
    outcome = run_processes([*flags, "--trainer.devices=2", "--run_name=x"], tmp_path, kill)
    check_outcome(outcome, signum, tmp_path / "idx" / "x", "mid-epoch")


@pytest.fixture
def stopping() -> StopSignals:
    return StopSignals()


def test_at_other_moments_a_signal_stops_at_once(stopping: StopSignals) -> None:
    with pytest.raises(Interrupted) as caught:
        stopping._on_signal(signal.SIGTERM, None)
    assert caught.value.status == 143


def test_while_training_a_signal_is_noted(stopping: StopSignals) -> None:
    stopping.holding = True
    stopping._on_signal(signal.SIGUSR1, None)
    stopping._on_signal(signal.SIGTERM, None)
    assert stopping.received == signal.SIGUSR1
    with pytest.raises(Interrupted) as caught:
        stopping.release()
    assert caught.value.signum == signal.SIGUSR1


def test_a_second_ctrl_c_does_not_wait(stopping: StopSignals) -> None:
    stopping.holding = True
    stopping._on_signal(signal.SIGINT, None)
    with pytest.raises(Interrupted) as caught:
        stopping._on_signal(signal.SIGINT, None)
    assert caught.value.status == 130


def test_the_first_process_decides(stopping: StopSignals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("MLP_MAIN_PROCESS", str(os.getppid()))
    stopping._on_signal(signal.SIGTERM, None)
    stopping.release()
    assert stopping.received == signal.SIGTERM


def handlers() -> list[Any]:
    return [signal.getsignal(signum) for signum in STOP_SIGNALS]


def test_other_threads_handle_nothing(stopping: StopSignals) -> None:
    before = handlers()

    def handle() -> None:
        with stopping.handling():
            assert handlers() == before

    with ThreadPoolExecutor(1) as pool:
        pool.submit(handle).result()


def test_all_is_as_before_afterwards(stopping: StopSignals) -> None:
    before, threads = handlers(), threading.active_count()
    with stopping.handling():
        assert handlers() != before
    assert handlers() == before
    assert signal.set_wakeup_fd(-1) == -1
    for _ in range(100):
        if threading.active_count() == threads:
            break
        time.sleep(0.01)
    assert threading.active_count() == threads


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")  # which is what this is about
@pytest.mark.parametrize("forked", [True, False])
def test_a_forked_process_has_signals_of_its_own(
    stopping: StopSignals, monkeypatch: pytest.MonkeyPatch, forked: bool
) -> None:
    """A worker that is told to end does not end the process that forked it; the same signal to that one does."""
    said: list[str] = []

    def say_and_stay() -> None:
        said.append("last words")
        raise SystemExit  # ends the thread alone

    monkeypatch.setattr("project.runs.saving.signals.MAX_WAIT_S", 0.1)
    stopping.last_words, stopping.holding = say_and_stay, True
    with stopping.handling():
        if forked:
            worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
            worker.start()
            time.sleep(0.2)
            worker.terminate()
            time.sleep(0.2)
            worker.kill()
            worker.join()
        else:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)
        stopping.received = 0  # so that all is put back
    assert said == ([] if forked else ["last words"])


STUCK = """
import sys, time
sys.path.insert(0, sys.argv[1])
from project.runs.saving.signals import stop_signals
stop_signals.holding = True
stop_signals.last_words = lambda: print("last words", flush=True)
with stop_signals.handling():
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("signum", STOP_SIGNALS, ids=lambda signum: signum.name)
def test_a_process_that_is_stuck_leaves_all_the_same(signum: signal.Signals) -> None:
    """One that only waits, and never comes to a batch's end."""
    root = str(ROOT)
    process = subprocess.Popen([sys.executable, "-c", STUCK, root], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    started = time.monotonic()
    process.send_signal(signum)
    assert process.communicate(timeout=MAX_S)[0] == "last words\n"
    assert process.returncode == STATUS[signum]
    assert time.monotonic() - started <= MAX_S
