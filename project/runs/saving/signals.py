"""Stopping on request: a signal ends a run within five seconds, with nothing lost and no process left behind.

While a network trains, a signal is only noted; the checkpoint callback acts on it at a batch's end. At any other
moment there is nothing to save, and the run stops at once. A process that is still there three seconds later, because
it waits for another one or computes a long batch, leaves without a word: the checkpoint before stays as it is.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from lightning_fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from pytorch_lightning import Trainer
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher

from project.runs.saving.platform_differences import (
    KILL_SIGNAL,
    STOP_SIGNALS,
    call_in_forked_processes,
    end_with_parent,
)

MAX_WAIT_S = 3.0
MAIN_PROCESS = "MLP_MAIN_PROCESS"
"""The environment variable by which the first process tells its own id to the processes that it starts."""


class Interrupted(Exception):  # noqa: N818 - not an error: somebody asked for it
    """The run was told to stop.

    Args:
        signum: The signal that told it.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum

    @property
    def name(self) -> str:
        return signal.Signals(self.signum).name

    @property
    def status(self) -> int:
        """Exit status: 130 for Ctrl-C, else 143, as if by SIGTERM."""
        return 130 if self.signum == signal.SIGINT else 143


class StopSignals:
    """The signals of this process, while it is `handling` them.

    Attributes:
        received: Number of the first signal that came, 0 while there is none.
        holding: Whether signals are only noted, for somebody who looks at `received`.
        last_words: What is still to be done if the process has to leave without finishing; at most a fraction of a
            second, from another thread.
    """

    def __init__(self) -> None:
        self.received = 0
        self.last_words: Callable[[], object] | None = None
        self.holding = False
        self._writing: socket.socket | None = None

    @contextmanager
    def handling(self) -> Iterator[None]:
        """Handle the signals meanwhile; only a process's main thread can, in others nothing happens."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {signum: signal.signal(signum, self._on_signal) for signum in STOP_SIGNALS}
        # Python runs a handler only between two of its own instructions, which may be long in coming: the bytes that
        # the C part writes here at once reach a thread that does not depend on that
        reading, writing = socket.socketpair()  # a pipe would do, but not on Windows
        writing.setblocking(False)
        self._writing = writing  # or it would be closed with this call's end, and its number given to another file
        signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        # what a forked process receives is not for this one
        call_in_forked_processes(lambda: signal.set_wakeup_fd(-1))
        threading.Thread(target=self._leave_in_time, args=(reading,), daemon=True).start()
        try:
            yield
        finally:
            if not self.received:  # else the process is about to end, and may still get stuck
                for signum, handler in before.items():
                    signal.signal(signum, handler)
                signal.set_wakeup_fd(-1)
                writing.close()  # which ends the thread

    def release(self) -> None:
        """Let signals stop the run at once again; one that was noted does so now.

        Raises:
            Interrupted: If one was noted.
        """
        self.holding = False
        if self.received and not is_launched():
            raise Interrupted(self.received)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        first, self.received = not self.received, self.received or signum
        # a second Ctrl-C means it: whoever types it does not wait for the batch's end
        insists = not first and signum == self.received == signal.SIGINT
        # a process that another one started leaves the decision to that one, which outlives it otherwise
        if insists or (first and not self.holding and not is_launched()):
            raise Interrupted(signum)

    def _leave_in_time(self, reading: socket.socket) -> None:
        with reading:
            numbers = (number[0] for number in iter(lambda: reading.recv(1), b""))
            signum = next((number for number in numbers if number in STOP_SIGNALS), None)
        if signum is None:
            return
        time.sleep(MAX_WAIT_S)
        if self.last_words is not None:
            self.last_words()
        os._exit(Interrupted(signum).status)


stop_signals = StopSignals()
"""This process's one and only: signals belong to a process as a whole."""


def is_launched() -> bool:
    """Whether the run's first process started this one."""
    return MAIN_PROCESS in os.environ and os.environ.get("LOCAL_RANK", "0") != "0"


def die_with_first_process() -> None:
    """Let this process, if the run's first one started it, end within a second of that one's end, whatever it does."""
    if is_launched():
        end_with_parent(int(os.environ[MAIN_PROCESS]))


def end_other_processes(trainer: Trainer) -> None:
    """End the processes that this one started, if any, whatever they wait for."""
    launcher = trainer.strategy.launcher
    if not isinstance(launcher, _SubprocessScriptLauncher):
        return
    for thread in threading.enumerate():
        if isinstance(thread, _ChildProcessObserver):
            thread._run = lambda: True  # type: ignore[method-assign] # or it takes their end for a crash, and ends this one
    launcher.kill(KILL_SIGNAL)
