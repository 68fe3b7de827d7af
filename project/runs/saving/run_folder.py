"""The run folder: it keeps a run's settings, its results, and where every number came from."""

import errno
import os
import secrets
import time
from pathlib import Path

from project.errors import InputError
from project.runs.saving.platform_differences import try_to_lock


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
    if name is not None and (not name or Path(name).name != name or name in (".", "..")):
        raise InputError(f"run_name {name!r} is no plain folder name", "type for example --run_name first")
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
    descriptor = os.open(folder / "train.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    if not try_to_lock(descriptor):
        os.close(descriptor)
        raise InputError(
            f"another process is training {folder} at this moment", "wait until it has ended, or choose another run"
        )
    return descriptor
