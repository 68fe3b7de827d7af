"""How a script runs: its console, its errors, its exit status."""

import logging
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable
from typing import NoReturn

from project.errors import DivergenceError, InputError, RunError
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


def setup_console() -> None:
    """Show this project's messages and its libraries' warnings, without what Lightning says of itself."""
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
    log.setLevel(logging.INFO if is_first_process() else logging.ERROR)
    log.propagate = False
    ignore_known_warnings()


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

    That is 0, 1 (failed while running), 2 (bad input), 130 (Ctrl-C) or 143 (told to stop by SIGTERM or SIGUSR1).
    Errors of the project's own kind are printed as cause and remedy, without traceback unless --debug is given.
    """
    debug = "--debug" in sys.argv[1:]
    try:
        check_launcher()
        setup_console()
        die_with_first_process()
        with stop_signals.handling():
            status = command() or 0
            if stop_signals.received:  # what was interrupted has caught the exception
                raise Interrupted(stop_signals.received)
    except (InputError, RunError) as error:
        if debug:
            raise
        if isinstance(error, DivergenceError) and is_launched():
            sys.exit(0)
        print(f"error: {error.cause}\n  fix: {error.remedy}", file=sys.stderr)  # noqa: T201
        status = 2 if isinstance(error, InputError) else 1
    except Interrupted as interrupted:
        status = _stopped(interrupted)
    except KeyboardInterrupt:
        status = _stopped(Interrupted(signal.SIGINT))
    except BrokenPipeError:  # whoever read the output has had enough, like head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except Exception:
        if not stop_signals.received or debug:
            raise
        status = _stopped(Interrupted(stop_signals.received))  # a library made another error of the interruption
    sys.exit(status)


def _stopped(interrupted: Interrupted) -> int:
    """Say that a signal stopped the program, unless the training has said so, and give the exit status."""
    if is_launched():
        return 0  # the first process speaks for all: a status of another one's own would make Lightning kill it
    if not interrupted.explained:
        print(f"stopped by {interrupted.name}", file=sys.stderr)  # noqa: T201
    return interrupted.status
