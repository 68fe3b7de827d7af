"""A folder of pictures: one subfolder per class, in `train/` and `test/`, or in one pool from which a test set is cut.

    python scripts/train.py --data.dataset folder --data.root photographs --data.size 32

Pictures in formats that only have gray give one channel; one picture in colour among them gives all of them three.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from project.data.sources.decoded import decoded_pictures
from project.data.sources.load import ImageDataset, ImageSplit
from project.data.sources.picture_files import FORMATS, SUFFIXES
from project.data.sources.pool import cut_test_set
from project.errors import InputError

log = logging.getLogger("project")

LAYOUT = "put one subfolder of pictures per class into it, or train/ and test/ with such subfolders"


class _Files(NamedTuple):
    """Picture files, class by class, and their classes' indices."""

    paths: list[Path]
    labels: Tensor


def load_folder(root: Path, size: int, split_seed: int, may_write: bool = True) -> ImageDataset:
    """Find, decode or take from the cache, and split the pictures of a folder.

    Args:
        root: The folder, with one subfolder per class, or with `train` and `test` that have such subfolders.
        size: The side of the pictures in pixels; each is scaled to fit, and its background fills the rest.
        split_seed: It decides the test set where there is none: a sixth of every class, at least one picture.
        may_write: Whether the cache of decoded pictures may be made in `root`; else it is in the user's own.

    Raises:
        InputError: If the folder is not laid out like this, a class is empty or only in one of the two parts, or a
            picture cannot be read.
    """
    root = root.expanduser()
    if not root.is_dir():
        raise InputError(f"{root} is not a folder" if root.exists() else f"{root} does not exist", LAYOUT)
    if (root / "train").is_dir():
        classes = _classes(root / "train")
        parts = [_find(root / "train", classes)]
        if (root / "test").is_dir():
            _check_same_classes(root, classes)
            parts.append(_find(root / "test", classes))
        _warn_of_others(root)
    else:
        classes = _classes(root)
        parts = [_find(root, classes)]
    labels = torch.cat([part.labels for part in parts])
    # before anything is decoded or kept: what is refused leaves nothing behind
    cut = cut_test_set(labels, split_seed, classes) if len(parts) == 1 else None
    images, digest = decoded_pictures([path for part in parts for path in part.paths], root, size, may_write)
    if cut is None:
        border = len(parts[0].labels)
        train, test = ImageSplit(images[:border], labels[:border]), ImageSplit(images[border:], labels[border:])
    else:
        train, test = (ImageSplit(images[chosen], labels[chosen]) for chosen in cut)
    name = f"pictures ({size} × {size}) and their names"
    return ImageDataset("folder", train, test, classes, f"pictures in {root}", {name: digest})


def _subfolders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _classes(folder: Path) -> tuple[str, ...]:
    """The classes' names: those of the subfolders, sorted."""
    names = _subfolders(folder)
    if len(names) < 2:
        found = f"one subfolder, {names[0]}" if names else "no subfolder"
        raise InputError(f"{folder} has {found}, but two classes or more are expected", LAYOUT)
    return tuple(names)


def _check_same_classes(root: Path, classes: Sequence[str]) -> None:
    own = _subfolders(root / "test")
    if missing := sorted(set(classes) - set(own)):
        raise InputError(
            f"{root / 'test'} lacks {len(missing)} of the {len(classes)} classes of {root / 'train'}, the first being "
            f"{missing[0]}",
            f"add {root / 'test' / missing[0]} with pictures, or merge train and test: a test set is then cut for you",
        )
    if unknown := sorted(set(own) - set(classes)):
        raise InputError(
            f"{root / 'test'} has the class {unknown[0]}, which {root / 'train'} has not",
            f"add {root / 'train' / unknown[0]} with pictures, or remove {root / 'test' / unknown[0]}",
        )


def _warn_of_others(root: Path) -> None:
    if others := sorted(set(_subfolders(root)) - {"train", "test"}):
        message = "%s is not used: with train/ there, only train/ and test/ are. Validation is cut from train/."
        log.warning(message, ", ".join(str(root / name) for name in others))


def _find(folder: Path, classes: Sequence[str]) -> _Files:
    """All pictures of each class, also in folders within, sorted by name."""
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        own = [
            path
            for path in sorted((folder / name).rglob("*"))
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
        ]
        if not own:
            raise InputError(
                f"{folder / name} has no picture",
                f"add pictures ({', '.join(FORMATS)}) whose names end as these do, such as .jpg, or remove that folder",
            )
        paths += own
        labels += [label] * len(own)
    return _Files(paths, torch.tensor(labels))
