"""Picture files decoded and scaled once, in threads, and kept as a memory map.

The result lies beside the pictures, or in the user's cache, under a hash of all files' names and bytes: whatever
changes in the folder makes another file, and the old one is left alone.
"""

import hashlib
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from project.data.sources.download import locked
from project.data.sources.idx import last_line
from project.data.sources.picture_files import FORMATS, is_gray, read_image, scaled_to_fit
from project.errors import InputError
from project.pages import terminal

log = logging.getLogger("project")

CACHE_VERSION = 1
"""Part of the cache's hash: to be raised when pictures are decoded or scaled in another way."""
CACHE_FOLDER, LOCK = ".decoded", ".lock"
LEFTOVER_AGE_S = 3600.0
"""An unfinished file of the cache that is older than this belongs to nobody any more."""
Result = TypeVar("Result")


def decoded_pictures(paths: Sequence[Path], root: Path, size: int, may_write: bool = True) -> tuple[Tensor, str]:
    """The pictures of some files, from the cache or decoded into it.

    Args:
        paths: The files, all below `root`.
        root: The folder in which the cache is made, if it can be written; else it is in the user's own.
        size: The side of the pictures in pixels.
        may_write: Whether the cache may be made in `root`; one that is there is used in any case.

    Returns:
        uint8 (n, size, size), or (n, size, size, 3) where one of the files is in colour; and the SHA-256 of all names
        and bytes.

    Raises:
        InputError: If a picture cannot be read; how many such there are is said too, and nothing is kept.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = list(_failing_once(pool.map(_catching(_digest), paths), paths))
    whole = hashlib.sha256()
    for path, digest in zip(paths, digests, strict=True):
        whole.update(f"{path.relative_to(root).as_posix()}\0{digest}\n".encode())
    content = whole.hexdigest()
    key = hashlib.sha256(f"{CACHE_VERSION} {size} {content}".encode()).hexdigest()
    name = f"{key[:32]}.npy"
    if not may_write and (found := _cached(root / CACHE_FOLDER / name, len(paths), size)) is not None:
        return found, content
    for folder in (root / CACHE_FOLDER, _user_cache()) if may_write else (_user_cache(),):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder / LOCK):
                return _from_cache(folder / name, paths, size), content
        except InputError:
            with suppress(OSError):  # a cache that is in use stays
                if [path.name for path in folder.iterdir()] == [LOCK]:
                    (folder / LOCK).unlink()
                    folder.rmdir()
            raise
        except OSError as error:
            log.info("Nothing can be kept in %s: %s", folder, last_line(error))
    return torch.from_numpy(_decode(paths, size, np.empty)), content


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlp-lightning-template"


def _from_cache(path: Path, paths: Sequence[Path], size: int) -> Tensor:
    """The pictures as a private memory map of a file in the cache, which is made if it is not there whole."""
    if (found := _cached(path, len(paths), size)) is not None:
        return found
    for leftover in path.parent.glob("*.part"):  # of a process that was killed
        if time.time() - leftover.stat().st_mtime > LEFTOVER_AGE_S:
            leftover.unlink()
    part = path.with_name(f"{path.name}.{os.getpid()}.part")

    def map_of(shape: tuple[int, ...], dtype: type) -> np.ndarray[Any, Any]:
        made = np.lib.format.open_memmap(part, "w+", dtype, shape)
        if hasattr(os, "posix_fallocate"):  # a full disk is an error here, but would end the process later
            with part.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, part.stat().st_size)
        return made

    try:
        _decode(paths, size, map_of).flush()
        part.replace(path)  # the name appears only when the file is whole
    finally:
        part.unlink(missing_ok=True)
    made = _cached(path, len(paths), size)
    assert made is not None, "what was just written"
    return made


def _cached(path: Path, num: int, size: int) -> Tensor | None:
    try:
        found = np.lib.format.open_memmap(path, mode="c")
    except (OSError, ValueError):  # not there, or damaged
        return None
    whole = found.dtype == np.uint8 and found.shape in ((num, size, size), (num, size, size, 3))
    return torch.from_numpy(found) if whole else None


def _decode(paths: Sequence[Path], size: int, allocate: Callable[..., Any]) -> Any:
    """Decode and scale all pictures, in threads, into an array that `allocate` makes of a shape and a type."""
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # it becomes the picture's own error
        gray = all(pool.map(_has_gray_only, paths))
        channels = 1 if gray else 3
        images = allocate((len(paths), size, size) if gray else (len(paths), size, size, 3), np.uint8)

        def fill(index: int) -> None:
            images[index] = scaled_to_fit(read_image(paths[index], channels), size, size).numpy()

        log.info("Decoding %s pictures once, for %s × %s pixels", f"{len(paths):,}", size, size)
        columns = (TextColumn("{task.completed:,} of {task.total:,} pictures"), BarColumn(), TimeRemainingColumn())
        console = terminal(stderr=True)
        with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
            results = pool.map(_catching(fill), range(len(paths)))
            for _ in _failing_once(progress.track(results, total=len(paths)), paths):
                pass
    return images


def _has_gray_only(path: Path) -> bool:
    """Whether a file says that its picture is gray; one that cannot be opened is refused when it is decoded."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            return is_gray(image)
    except Exception:  # decoders raise errors of any class on a damaged file
        return True


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _catching(function: Callable[[Any], Result]) -> Callable[[Any], Result | InputError]:
    """The function with its refusals as results, so that all pictures are looked at before one is complained of."""

    def call(argument: Any) -> Result | InputError:
        try:
            return function(argument)
        except InputError as error:
            return error
        except OSError as error:
            return InputError(f"{argument} cannot be read: {error.strerror or error}", "change its permissions")

    return call


def _failing_once(results: Iterable[Result | InputError], paths: Sequence[Path]) -> Iterable[Result]:
    """The results, if none is a refusal.

    Raises:
        InputError: With the first refusal, and how many there are.
    """
    good: list[Result] = []
    failures: list[InputError] = []
    for result in results:
        if isinstance(result, InputError):
            failures.append(result)
        else:
            good.append(result)
    if failures:
        raise InputError(
            f"{len(failures):,} of {len(paths):,} pictures cannot be used; {failures[0].cause}",
            f"{failures[0].remedy}, or remove the file",
        )
    return good
