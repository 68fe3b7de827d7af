"""Files inside a folder that may be a stranger's: opened so that no link leads to a file elsewhere.

A run folder or a study's folder can come from anywhere, and a link in it can have the name of any file that is about to
be read or written. The folder itself is what somebody typed, so it may lie behind links.
"""

import contextlib
import os
import stat
from pathlib import Path, PurePath
from typing import IO, Any

from project.errors import InputError

# read by the system's own rules: a link is not followed, and a pipe without a writer is not waited for
_GUARDS: int = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def open_inside(folder: Path, name: str, mode: str = "rb", **text: Any) -> IO[Any]:
    """Open a file inside a folder; neither the file nor a folder on the way to it may be a link.

    Args:
        folder: The folder; it may itself lie behind links.
        name: The file's path in it, such as checkpoints/last.ckpt. Where it is written, missing folders are made.
        mode: The mode as `open` takes it. With x, whatever had the name before, a link too, is removed.
        text: Encoding and newline, as `open` takes them.

    Raises:
        InputError: If there is a link on the way, the name belongs to no plain file, or a file that is written has
            a second name somewhere, a hard link.
        OSError: If it cannot be opened.
    """
    path = folder / name

    def opener(_: str, flags: int) -> int:
        try:
            return _descriptor(folder, name, flags | _GUARDS | getattr(os, "O_BINARY", 0))
        except OSError as error:
            _refuse_links(folder, name)  # the system's own words for one differ: a loop, or no folder
            error.filename = str(path)
            raise

    opened = open(path, mode, opener=opener, **text)  # noqa: SIM115 - Path.open has no opener; the caller closes
    status = os.fstat(opened.fileno())
    if not stat.S_ISREG(status.st_mode):
        opened.close()
        raise InputError(f"{path} is no plain file", "remove it, or put the file in its place")
    if status.st_nlink > 1 and opened.writable():  # what is appended here would be appended elsewhere too
        opened.close()
        raise InputError(f"{path} is one file with another name (a hard link)", "copy the folder, and use the copy")
    return opened


def check_contained(folder: Path) -> None:
    """Refuse a folder with a link that leads out of it, before a library that follows links gets the folder.

    Raises:
        InputError: With the first such link.
    """
    home = folder.resolve()
    for place, folders, files in os.walk(home):
        for name in (*folders, *files):
            path = Path(place, name)
            if _is_link(path) and not path.resolve().is_relative_to(home):
                raise _refusal(folder / path.relative_to(home))


def _descriptor(folder: Path, name: str, flags: int) -> int:
    *groups, last = PurePath(name).parts
    if PurePath(name).is_absolute() or ".." in (*groups, last):
        raise InputError(f"{name} is no name of a file inside {folder}", "name one without .. in it")
    if os.open not in os.supports_dir_fd:  # Windows: what was checked can be replaced before it is opened
        _refuse_links(folder, name, unless_replaced=bool(flags & os.O_EXCL))
        path = folder / name
        if flags & os.O_CREAT:
            path.parent.mkdir(parents=True, exist_ok=True)
        if flags & os.O_EXCL:
            path.unlink(missing_ok=True)
        return os.open(path, flags, 0o666)
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for group in groups:
            if flags & os.O_CREAT:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(group, dir_fd=place)
            below = os.open(group, os.O_RDONLY | os.O_DIRECTORY | _GUARDS, dir_fd=place)
            os.close(place)
            place = below
        if flags & os.O_EXCL:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(last, dir_fd=place)
        return os.open(last, flags, 0o666, dir_fd=place)
    finally:
        os.close(place)


def _refuse_links(folder: Path, name: str, unless_replaced: bool = False) -> None:
    path = folder
    for part in PurePath(name).parts:
        path /= part
        if _is_link(path) and not (unless_replaced and path == folder / name):
            raise _refusal(path)


def _is_link(path: Path) -> bool:
    # a junction is what Windows has beside links; Python knows it since 3.12
    return path.is_symlink() or bool(getattr(os.path, "isjunction", lambda _: False)(path))


def _refusal(path: Path) -> InputError:
    try:
        target = f" to {os.readlink(path)!r}"  # noqa: PTH115 - as it is written, not as a path
    except OSError:
        target = ""
    return InputError(
        f"{path} is a link{target}, and nothing is read or written through links there",
        "put what it stands for in its place if it is yours, or delete it",
    )
