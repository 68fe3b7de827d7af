"""The run folder: where a run keeps what it was told, what it found and where every number came from."""

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
        root: Folder of all runs.
        dataset: The data set's name.
        name: The run's name; time and a short random id if None.
        auto: Take a folder that is there already if it has no settings yet: a run that ended before it began.

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
                        "choose another --run_name, or leave it out for a name made of time and chance",
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
    """The run folder that a path means: the folder itself, or the one around a checkpoint inside it.

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
    """Keep other processes from training the same run while the file descriptor that this returns is open.

    Raises:
        InputError: If one does already.
    """
    descriptor = os.open(folder / "train.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    if not try_to_lock(descriptor):
        os.close(descriptor)
        raise InputError(
            f"another process is training {folder} at this moment", "wait until it has ended, or choose another run"
        )
    return descriptor
