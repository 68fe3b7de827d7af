"""The run folder: it keeps a run's settings, its results, and where every number came from."""

import errno
import logging
import os
import secrets
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from project.data.datamodule import ImageDataModule
from project.errors import InputError
from project.inside import check_contained, open_inside
from project.network.layers import Network, format_layer_table
from project.runs.command import TextFormatter, is_first_process
from project.runs.saving.contents import read_provenance
from project.runs.saving.files import write_json, write_text
from project.runs.saving.platform_differences import try_to_lock
from project.runs.saving.provenance import provenance
from project.runs.saving.resumption import Resumption
from project.runs.saving.signals import MAIN_PROCESS
from project.runs.settings import RunSettings, check_run_name
from project.training.callbacks import FINISHED

log = logging.getLogger("project")


def new_run_folder(root: Path, dataset: str, name: str | None, auto: bool = False) -> Path:
    """Create `root`/`dataset`/`name` for one run alone.

    Args:
        root: This folder has all runs.
        dataset: This is the data set's name.
        name: This is the run's name. If it is None, the name is the time and a short random id.
        auto: If true, a folder that exists already is taken if it has no settings: its run ended before it began.

    Raises:
        InputError: If a run of that name exists, or the folder cannot be made or written.
    """
    check_run_name(name)
    parent = root / dataset
    try:
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            folder = parent / (name or f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{secrets.token_hex(3)}")
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                if auto and not (folder / "config.yaml").exists():
                    return folder
                if name is not None:
                    raise InputError(
                        f"the run folder {folder} exists already, and runs are never overwritten",
                        "choose another --run_name, or leave it out to get a name from the time and a random id",
                    ) from None
    except InputError:
        raise
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(
                f"the run folder's name is too long: {name}", "type for example --run_name first"
            ) from None
        raise InputError(
            f"the run folder cannot be made under {parent}: {error.strerror or error}",
            "choose a folder that can be written: --run_root FOLDER",
        ) from None


def find_run_folder(path: Path) -> Path:
    """Find the run folder that a path belongs to: the folder itself, or the one that has this checkpoint.

    Raises:
        InputError: If there is no run there.
    """
    for candidate in (path, path.parent, path.parent.parent):
        if candidate.is_dir() and (candidate / "config.yaml").is_file():
            return candidate
    raise InputError(
        f"{path} is no run folder: it has no config.yaml",
        "name the folder that training printed, such as runs/fashion_mnist/NAME",
    )


def lock_run_folder(folder: Path) -> int:
    """Prevent other processes from training the same run while the returned file descriptor is open.

    Raises:
        InputError: If another process is training it already.
    """
    with open_inside(folder, "train.log", "ab") as file:
        descriptor = os.dup(file.fileno())
    if not try_to_lock(descriptor):
        os.close(descriptor)
        raise InputError(
            f"another process is training {folder} at this moment", "wait until it has ended, or choose another run"
        )
    return descriptor


def claim_run_folder(
    settings: RunSettings, resumption: Resumption | None, owner: object
) -> tuple[Path, Callable[[], object]]:
    """Make a run's folder, or take that of the run to go on with, and keep other processes from training it.

    Args:
        settings: Of the run.
        resumption: The run to go on with, if any.
        owner: The folder stays locked for as long as this object lives.

    Returns:
        The folder, and a function that unlocks it before the owner's end.

    Raises:
        InputError: If the folder cannot be made, or another process trains the run.
    """
    root, dataset, name = Path(settings.run_root), settings.data.dataset, settings.run_name
    if not is_first_process():
        # Lightning starts a run's other processes by running the same command again
        inherited = os.environ.get("MLP_RUN_FOLDER")
        return Path(inherited) if inherited else root / dataset / (name or "other-rank"), lambda: None
    if not {"LOCAL_RANK", "SLURM_PROCID"} & os.environ.keys():
        # left over in the shell, where it may be in use: Lightning finds a free one for the processes it starts
        os.environ.pop("MASTER_PORT", None)
    folder = resumption.folder if resumption else new_run_folder(root, dataset, name, auto=settings.resume == "auto")
    check_contained(folder)  # loggers write there by themselves
    unlock = weakref.finalize(owner, os.close, lock_run_folder(folder))
    os.environ["MLP_RUN_FOLDER"] = str(folder)
    os.environ[MAIN_PROCESS] = str(os.getpid())
    return folder, unlock


class RunLog(logging.FileHandler):
    """A run's train.log. Its disk, when full, stops the run as it does where any other file is written.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(folder / "train.log", encoding="utf-8")

    def _open(self) -> Any:  # logging's place for it
        return open_inside(self.folder, "train.log", "a", encoding="utf-8", errors="backslashreplace")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        raise  # logging calls this where it handles the error


@contextmanager
def log_file(folder: Path | None) -> Iterator[None]:
    """Keep what is logged meanwhile in the run folder's train.log too, if there is a folder."""
    if folder is None:
        yield
        return
    handler = RunLog(folder)
    handler.setFormatter(TextFormatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


def start_run_folder(
    folder: Path, settings: RunSettings, datamodule: ImageDataModule, network: Network, resumption: Resumption | None
) -> None:
    """Write down settings, origin and network before anything can go wrong, or that the run goes on."""
    metrics = resumption.metrics if resumption else {}
    if metrics.get("status") in FINISHED:
        write_json(folder / "metrics.json", metrics | {"status": "interrupted"})  # it is being trained longer
    data = {
        "name": datamodule.data.name,
        "source": datamodule.data.source,
        "sha256": datamodule.data.sha256,
        "split_sha256": datamodule.split_sha256,
    }
    origin = provenance(settings.seed_everything, settings.data.split_seed, data)
    first = read_provenance(folder) if resumption else {}
    if first:
        now = {name: origin[name] for name in ("command", "started", "git_commit", "versions", "hardware")}
        origin = first | {"resumed": [*first.get("resumed", []), now]}
    write_json(folder / "provenance.json", origin)
    write_text(folder / "model.txt", format_layer_table(network))
    write_text(folder / "config.yaml", settings.as_yaml())  # the last: a folder that has it is a run
