"""How a script runs: its console, its errors, its exit status."""

import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import NoReturn

from project.errors import DivergenceError, InputError, RunError, printable
from project.runs.saving.signals import Interrupted, die_with_first_process, is_launched, stop_signals

log = logging.getLogger("project")


def is_first_process() -> bool:
    """Whether this is the process that owns the run folder, by what its launcher wrote into the environment."""
    ranks = (os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK"))
    return int(next((rank for rank in ranks if rank), 0)) == 0


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
    setup_console()
    die_with_first_process()
    debug = "--debug" in sys.argv[1:]
    try:
        with stop_signals.handling():
            status = command() or 0
    except (InputError, RunError) as error:
        if debug:
            raise
        if isinstance(error, DivergenceError) and is_launched():
            sys.exit(0)
        print(f"error: {error.cause}\n  fix: {error.remedy}", file=sys.stderr)  # noqa: T201
        status = 2 if isinstance(error, InputError) else 1
    except Interrupted as interrupted:
        # the first process speaks for all: a status of another one's own would make Lightning kill it
        status = 0 if is_launched() else interrupted.status
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:  # whoever read the output has had enough, like head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.exit(status)
