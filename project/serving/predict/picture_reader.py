"""Picture files found and read in batches, by several threads."""

import glob
import io
import math
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from project.data.sources.idx import read_idx
from project.data.sources.picture_files import SUFFIXES, read_image
from project.errors import InputError
from project.serving.predict import Polarity, Preparation
from project.serving.predict.image_files import fit_image, is_dark_on_light, is_prepared

STANDARD_INPUT = "-"
SMALL_FILE = 1 << 14
"""Up to this size in bytes, opening a file takes longer than decoding it."""
SIZE_SAMPLE = 100
"""Files, evenly spread, whose sizes decide how many threads read."""
POLARITY_SAMPLE = 1000
"""Pictures of an IDX file, evenly spread, that decide whether all of its pictures are inverted."""
THUMBNAIL_SIDE = 128
"""A given picture is kept at a size from this many pixels to twice as many."""
TASKS_PER_THREAD = 4
"""Each thread's share of few files is cut into this many parts, so that all threads end at about the same time."""


@dataclass
class PictureBatch:
    """Pictures that fit the network, and those of the same files that could not be read.

    Args:
        names: The pictures' names.
        images: The levels, uint8 (n, height, width) or in colour (n, height, width, 3).
        inverted: Whether each picture was inverted, bool (n,).
        given: What the pictures were made from, gray or in colour, made smaller.
        num_files: How many files these are; for an IDX file with several batches, this batch's share of it.
        failures: The errors of the files that could not be read.
    """

    names: list[str]
    images: Tensor
    inverted: Tensor
    given: list[Tensor]
    num_files: float
    failures: list[InputError]


@dataclass(frozen=True)
class PictureReader:
    """Reads files as pictures that fit a network.

    Args:
        height: The height of the network's input.
        width: The width of the network's input.
        polarity: What happens to the gray levels; for an IDX file, auto decides once for all of its pictures.
        preparation: Which pictures' ink is prepared as MNIST's was.
        standard_input: The stream that the picture - is read from.
        channels: The channels of the network's input, 1 for gray or 3 for colours.

    Raises:
        InputError: If ink is to be prepared in colour.
    """

    height: int
    width: int
    polarity: Polarity = "auto"
    preparation: Preparation = "never"
    standard_input: BinaryIO = field(default_factory=io.BytesIO)
    channels: int = 1

    def __post_init__(self) -> None:
        if self.preparation == "always" and self.channels != 1:
            raise InputError(
                f"ink is prepared for networks that take gray pictures, but this one takes {self.channels} channels",
                "leave --prepare out",
            )

    def read(self, files: Sequence[str]) -> PictureBatch:
        """Read picture files; one that cannot be read is left out and becomes a failure."""
        names, images, failures = [], [], []
        for file in files:
            source = io.BytesIO(self.standard_input.read()) if file == STANDARD_INPUT else file
            try:
                images.append(read_image(source, self.channels))
                names.append(file)
            except InputError as error:
                failures.append(error)
        given = [_thumbnail(image) for image in images]
        return PictureBatch(names, *self.fit(images, self.polarity), given, len(files), failures)

    def fit(self, images: Sequence[Tensor], polarity: Polarity) -> tuple[Tensor, Tensor]:
        """Pictures of any sizes as the network takes them, uint8, and which were inverted, bool (n,)."""
        size = (self.height, self.width) if self.channels == 1 else (self.height, self.width, self.channels)
        if not images:
            return torch.empty(0, *size, dtype=torch.uint8), torch.empty(0, dtype=torch.bool)
        prepared = [is_prepared(image, size, self.preparation) for image in images]
        if not any(prepared) and all(image.shape == size for image in images):  # together, which is much faster
            stacked = torch.stack(list(images))
            dark_on_light = is_dark_on_light(stacked) if polarity == "auto" else torch.tensor([polarity == "invert"])
            inverted = dark_on_light.expand(len(stacked))
            return torch.where(inverted.view(-1, *[1] * len(size)), 255 - stacked, stacked), inverted
        each = zip(images, prepared, strict=True)
        fitted, turned = zip(*(fit_image(image, *size[:2], polarity, ink) for image, ink in each), strict=True)
        return torch.stack(fitted), torch.tensor(turned)

    def read_idx(self, file: str, batch_size: int) -> Iterator[PictureBatch]:
        """Read an IDX file's pictures, batch by batch; a file that cannot be read is one failure."""
        try:
            images = read_idx(Path(file), (None, None, None))
        except InputError as error:
            yield PictureBatch([], *self.fit([], "as_is"), [], 1, [error])
            return
        polarity = self.polarity
        if polarity == "auto":
            sample = images[:: math.ceil(len(images) / POLARITY_SAMPLE)]
            polarity = "invert" if is_dark_on_light(sample).float().mean() > 0.5 else "as_is"
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            names = [f"{file}[{number}]" for number in range(start, start + len(batch))]
            if self.channels != 1:  # an IDX file is gray
                batch = batch.unsqueeze(3).expand(-1, -1, -1, self.channels)
            yield PictureBatch(names, *self.fit(list(batch), polarity), list(batch), len(batch) / len(images), [])


def _thumbnail(image: Tensor) -> Tensor:
    """A picture for a sheet, uint8: what is read ahead must not fill the memory."""
    factor = max(image.shape[:2]) // THUMBNAIL_SIDE
    return image if factor < 2 else torch.from_numpy(np.array(Image.fromarray(image.numpy()).reduce(factor)))


def find_files(given: Sequence[str]) -> list[str]:
    """The files that the command line names, in its order.

    Args:
        given: Files, folders (their pictures and IDX files, and those of folders within, sorted by name), patterns
            such as digits/*.png that the shell has not expanded, and - for standard input.

    Raises:
        InputError: If one of them does not exist, or if a folder or pattern has no picture.
    """
    found: list[str] = []
    for name in given:
        path = Path(name)
        if path.is_dir() and name != STANDARD_INPUT:
            files = sorted(str(file) for file in path.rglob("*") if file.is_file() and _is_picture(file, path))
            cause = f"the folder {name} contains no picture"
            remedy = f"names must end in {', '.join(sorted(SUFFIXES))}, or contain idx3-ubyte"
        elif name == STANDARD_INPUT or path.exists():  # for a pipe or a device read_image reports what is wrong with it
            files = [name]
        else:
            files = sorted(file for file in glob.glob(name, recursive=True) if Path(file).is_file())  # noqa: PTH207 - also absolute
            cause = f"no file matches {name}" if glob.has_magic(name) else f"there is no file {name}"
            remedy = "check the name, or name a folder of pictures"
        if not files:
            raise InputError(cause, remedy)
        found += files
    if found.count(STANDARD_INPUT) > 1:
        raise InputError("standard input (-) was named more than once", "name it once: it is one picture")
    return found


def _is_picture(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return not hidden and (file.suffix.lower() in SUFFIXES or "idx3-ubyte" in file.name)


def is_idx(file: str) -> bool:
    """Whether a file must be read as IDX, plain or gzipped: by its first bytes, which no picture has."""
    if file == STANDARD_INPUT or Path(file).suffix.lower() in SUFFIXES:
        return False
    try:
        with Path(file).open("rb") as opened:
            start = opened.read(4)
    except OSError:  # reported when it is read
        return False
    return "idx3-ubyte" in Path(file).name or start[:2] == b"\x1f\x8b" or start == b"\x00\x00\x08\x03"


def suitable_threads(files: Sequence[str]) -> int:
    """One thread for small files, because Python opens them one at a time anyway; otherwise one for each core."""
    sample = [Path(file) for file in files[:: math.ceil(len(files) / SIZE_SAMPLE) or 1] if file != STANDARD_INPUT]
    sizes = [path.stat().st_size for path in sample if path.is_file()]
    return (os.cpu_count() or 1) if sizes and sum(sizes) > SMALL_FILE * len(sizes) else 1


def read_batches(
    reader: PictureReader, files: Sequence[str], batch_size: int, num_threads: int
) -> Iterator[PictureBatch]:
    """Read files in threads, ahead of the batches that are used, in the files' order."""
    with ThreadPoolExecutor(num_threads) as pool:
        for are_idx, group in groupby(files, is_idx):
            if not are_idx:
                yield from _read_pictures(pool, reader, list(group), batch_size, num_threads)
            else:
                for file in group:
                    yield from reader.read_idx(file, batch_size)


def _read_pictures(
    pool: ThreadPoolExecutor, reader: PictureReader, files: Sequence[str], batch_size: int, num_threads: int
) -> Iterator[PictureBatch]:
    size = min(batch_size, math.ceil(len(files) / (num_threads * TASKS_PER_THREAD))) or 1
    waiting: deque[Future[PictureBatch]] = deque()
    try:
        for start in range(0, len(files), size):
            waiting.append(pool.submit(reader.read, files[start : start + size]))
            if len(waiting) > 2 * num_threads:  # what is read ahead is bounded, and so is memory
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
