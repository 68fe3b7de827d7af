"""How a script runs: its console, its errors, its exit status."""

import contextlib
import io
import logging
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from typing import NoReturn

from project.errors import DivergenceError, InputError, RunError, printable
from project.runs.saving.signals import MAIN_PROCESS, Interrupted, die_with_first_process, is_launched, stop_signals

log = logging.getLogger("project")


RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""The variables by which a launcher tells a process its number; the first that is set counts."""
LAUNCHER_NUMBERS = (*RANKS, "WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "SLURM_LOCALID", "SLURM_NODEID", MAIN_PROCESS)
"""All variables of a launcher that this project, Lightning or torch reads as whole numbers."""


def is_first_process() -> bool:
    """Whether this is the process that owns the run folder, by what its launcher wrote into the environment."""
    return int(next((rank for name in RANKS if (rank := os.environ.get(name))), 0)) == 0


def check_launcher() -> None:
    """Refuse environment variables of a launcher that are no whole numbers.

    Raises:
        InputError: With the name of the variable.
    """
    for name in LAUNCHER_NUMBERS:
        value = os.environ.get(name)
        if value is not None and not re.fullmatch("[0-9]{1,9}", value):
            raise InputError(
                f"the environment variable {name} is {value!r}, but a launcher such as torchrun sets it to a number",
                f"type unset {name}",
            )


class TextFormatter(logging.Formatter):
    """Messages as text, whatever a file that they quote contains."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), kept="\n")


def setup_console() -> None:
    """Show this project's messages and its libraries' warnings, without what Lightning says of itself."""
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(TextFormatter("%(message)s"))
        log.addHandler(handler)
    log.setLevel(logging.INFO if is_first_process() else logging.ERROR)
    log.propagate = False
    threading.excepthook = _say_nothing_twice
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may be no text, and a terminal may know few letters
        sys.stdout.reconfigure(errors="backslashreplace")
    ignore_known_warnings()


def _say_nothing_twice(args: threading.ExceptHookArgs) -> None:
    """Leave out the traceback of TensorBoard's thread, whose error the training gets at its next scalar."""
    if not (isinstance(args.exc_value, OSError) and type(args.thread).__name__ == "_AsyncWriterThread"):
        threading.__excepthook__(args)


def ignore_known_warnings() -> None:
    """Leave out the libraries' warnings that are wrong about this project."""
    # batches are made on the device: no worker processes are missing; and epoch values are the same on every rank
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    # between this Lightning and the newest torch
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")
    warnings.filterwarnings("ignore", message=r".*Checkpoint directory .* exists and is not empty.*")


def run_command(command: Callable[[], int | None]) -> NoReturn:
    """Run a script's main function and leave with its status.

    That is 0, 1 (failed while running), 2 (bad input), 130 (Ctrl-C) or 143 (told to stop by another signal).
    Errors of the project's own kind are printed as cause and remedy, without traceback unless --debug is given.
    """
    debug = "--debug" in sys.argv[1:]
    try:
        status = _status_of(command, debug)
        sys.stdout.flush()  # what does not fit on the disk is noticed here, not when Python has ended
    except BrokenPipeError:  # whoever read the output has had enough, like head
        _drop_output()
        status = 1
    except OSError as error:
        if debug:
            raise
        _drop_output()
        where = f" ({error.filename})" if error.filename else ""
        _say(
            f"a file cannot be read or written: {error.strerror or error}{where}", "see to the disk, and type it again"
        )
        status = 1
    sys.exit(status)


def _status_of(command: Callable[[], int | None], debug: bool) -> int:
    """Run a script's main function, say what went wrong, and give the exit status."""
    try:
        check_launcher()
        setup_console()
        die_with_first_process()
        with stop_signals.handling():
            status = command() or 0
            if stop_signals.received:  # what was interrupted has caught the exception
                raise Interrupted(stop_signals.received)
            return status
    except SystemExit as leaving:  # after --help
        return leaving.code if isinstance(leaving.code, int) else 0
    except (InputError, RunError) as error:
        if debug:
            raise
        if isinstance(error, DivergenceError) and is_launched():
            return 0
        _say(error.cause, error.remedy)
        return 2 if isinstance(error, InputError) else 1
    except Interrupted as interrupted:
        return _stopped(interrupted)
    except KeyboardInterrupt:
        return _stopped(Interrupted(signal.SIGINT))
    except Exception as error:
        if not stop_signals.received or debug or isinstance(error, BrokenPipeError):
            raise
        return _stopped(Interrupted(stop_signals.received))  # a library made another error of the interruption


def _say(cause: str, remedy: str) -> None:
    with contextlib.suppress(OSError):  # there may be no terminal any more
        print(f"error: {cause}\n  fix: {remedy}", file=sys.stderr)  # noqa: T201


def _drop_output() -> None:
    """Let Python's end, which writes what is left of the output, not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stopped(interrupted: Interrupted) -> int:
    """Say that a signal stopped the program, unless the training has said so, and give the exit status."""
    if is_launched():
        return 0  # the first process speaks for all: a status of another one's own would make Lightning kill it
    if not interrupted.explained:
        with contextlib.suppress(OSError):  # there may be no terminal any more
            print(f"stopped by {interrupted.name}", file=sys.stderr)  # noqa: T201
    return interrupted.status
