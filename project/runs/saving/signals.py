"""Stopping on request: a signal ends a run within five seconds; nothing is lost and no process stays behind.

While a network trains, a signal is only noted; the checkpoint callback acts on it at the end of a batch. At any other
moment there is nothing to save, and the run stops at once. A process may still be there three seconds later, because it
waits for another one or computes a long batch. It then ends without a message, and its last checkpoint stays as it is.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from project.runs.saving.platform_differences import (
    STOP_SIGNALS,
    call_in_forked_processes,
    end_with_parent,
)

MAX_WAIT_S = 3.0
"""A process that has received a signal ends after this time, whatever it is doing."""
MAIN_PROCESS = "MLP_MAIN_PROCESS"
"""The environment variable with the id of the run's first process, for the processes that it starts."""


class Interrupted(Exception):  # noqa: N818 - not an error: somebody asked for it
    """A signal asked the run to stop.

    Args:
        signum: This is the signal's number.

    Attributes:
        explained: Whether somebody has said what was stopped, and how to go on.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum
        self.explained = False

    @property
    def name(self) -> str:
        return signal.Signals(self.signum).name

    @property
    def status(self) -> int:
        """The exit status: 130 after Ctrl-C, and 143, which stands for SIGTERM, after any other signal."""
        return 130 if self.signum == signal.SIGINT else 143


class StopSignals:
    """The signals that this process receives while it is `handling` them.

    Attributes:
        received: It is the number of the first signal that came, and 0 before that.
        holding: If true, a signal is only noted in `received`, and the caller has to look there.
        last_words: This function is called from another thread if the process has to end without finishing. It may
            take a fraction of a second.
    """

    def __init__(self) -> None:
        self.received = 0
        self.last_words: Callable[[], object] | None = None
        self.holding = False
        self._writing: socket.socket | None = None

    @contextmanager
    def handling(self) -> Iterator[None]:
        """Handle signals within the `with` block; only a process's main thread can, and others do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # nohup lets a program ignore the end of its terminal, and so it does
        ignored = {signum for signum in STOP_SIGNALS if signum.name == "SIGHUP" and _is_ignored(signum)}
        before = {signum: signal.signal(signum, self._on_signal) for signum in STOP_SIGNALS if signum not in ignored}
        # Python calls a handler only between two of its own instructions, and one of them may take long. The C part of
        # Python writes the signal's number here at once, and a thread of its own reads it.
        reading, writing = socket.socketpair()  # a pipe would do, but not on Windows
        writing.setblocking(False)
        self._writing = writing  # or it would be closed with this call's end, and its number given to another file
        signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        # a forked process shares the socket, but what it receives is not meant for this process
        call_in_forked_processes(lambda: signal.set_wakeup_fd(-1))
        threading.Thread(target=self._leave_in_time, args=(reading,), daemon=True).start()
        try:
            yield
        finally:
            if not self.received:  # after a signal the process is about to end, but it may still get stuck
                for signum, handler in before.items():
                    signal.signal(signum, handler)
                signal.set_wakeup_fd(-1)
                writing.close()  # which ends the thread

    def release(self) -> None:
        """From now on, let signals stop the run at once; one that was noted stops it now.

        Raises:
            Interrupted: If one was noted.
        """
        self.holding = False
        if self.received and not is_launched():
            raise Interrupted(self.received)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        first, self.received = not self.received, self.received or signum
        # whoever types Ctrl-C a second time does not want to wait for the end of the batch
        insists = not first and signum == self.received == signal.SIGINT
        # a process that the first one started leaves the decision to it: otherwise the first one would go on alone
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
        elif not is_launched():
            os.write(2, f"stopped by {Interrupted(signum).name}\n".encode())
        os._exit(Interrupted(signum).status)


def _is_ignored(signum: signal.Signals) -> bool:
    return signal.getsignal(signum) is signal.SIG_IGN


stop_signals = StopSignals()
"""The only one in a process, because signals belong to the process as a whole."""


def is_launched() -> bool:
    """Whether the run's first process started this one."""
    return MAIN_PROCESS in os.environ and os.environ.get("LOCAL_RANK", "0") != "0"


def die_with_first_process() -> None:
    """If the run's first process started this one, end this one within a second after the first has ended."""
    if is_launched():
        end_with_parent(int(os.environ[MAIN_PROCESS]))
