"""The table of data sources: one row says all that the project must know of one.

    SOURCES["folder"].load(settings)  # an ImageDataset

Settings and help read the names before torch is loaded, so nothing here imports it: a row's function imports what it
needs when it is called.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    ImageDataset = Any  # the class is in a module that imports torch


class SourceSettings(Protocol):
    """The settings that a source may read, as `DataSettings` has them."""

    @property
    def dataset(self) -> str: ...
    @property
    def root(self) -> str: ...
    @property
    def download(self) -> bool: ...
    @property
    def size(self) -> int: ...
    @property
    def split_seed(self) -> int: ...


@dataclass(frozen=True)
class Source:
    """One source of data.

    Args:
        load: It finds, checks and opens the data: an `ImageDataset` with uint8 pictures (n, height, width) or (n,
            height, width, channels), and int64 classes or float32 numbers. It raises an `InputError` for anything else.
        decided_by: The settings that decide what is loaded; a study loads data once for all runs that agree in them.
        polarity: What is done to pictures from outside before a network answers: auto brings them to light on dark,
            which the source's own pictures are; as_is does nothing, because nothing is known of them.
        centers_ink: Whether the pictures' ink was centred by its mass, so that a drawing should be too.
    """

    load: Callable[[SourceSettings], "ImageDataset"]
    decided_by: tuple[str, ...] = ("dataset", "root")
    polarity: Literal["auto", "as_is"] = "as_is"
    centers_ink: bool = False


def _idx_files(settings: SourceSettings) -> "ImageDataset":
    from project.data.sources.load import load_dataset

    return load_dataset(settings.dataset, Path(settings.root), settings.download)


def _cifar10(settings: SourceSettings) -> "ImageDataset":
    from project.data.sources.cifar import load_cifar10

    return load_cifar10(Path(settings.root), settings.download)


def _folder(settings: SourceSettings) -> "ImageDataset":
    from project.data.sources.folder import load_folder

    return load_folder(Path(settings.root), settings.size, settings.split_seed, may_write=settings.download)


def _arrays(settings: SourceSettings) -> "ImageDataset":
    from project.data.sources.arrays import load_arrays

    return load_arrays(Path(settings.root), settings.split_seed)


SOURCES: dict[str, Source] = {
    "mnist": Source(_idx_files, polarity="auto", centers_ink=True),
    "fashion_mnist": Source(_idx_files, polarity="auto"),
    "kmnist": Source(_idx_files, polarity="auto"),
    "emnist": Source(_idx_files, polarity="auto", centers_ink=True),
    "cifar10": Source(_cifar10),
    "idx": Source(_idx_files),
    "folder": Source(_folder, decided_by=("dataset", "root", "size", "split_seed")),
    "arrays": Source(_arrays, decided_by=("dataset", "root", "split_seed")),
}
"""Every source by its name."""
