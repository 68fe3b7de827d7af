"""Where MNIST, FashionMNIST and a user's own IDX files come from; every byte is checked before it is used.

    from project.data.sources.load import load_dataset
    dataset = load_dataset("fashion_mnist", Path("data"))
    dataset.train.images  # uint8 (60000, 28, 28)

Sources of the two known sets, in this order:

1. ``root`` in torchvision's layout (``root/MNIST/raw``, ``root/FashionMNIST/raw``), plain or gzipped;
2. FashionMNIST: the folder of Debian's and Ubuntu's package ``dataset-fashion-mnist``;
3. torchvision's own download;
4. FashionMNIST: that package, fetched with apt without being root and unpacked under ``root``;
5. an error that says what was tried, and the two shortest ways out.

An IDX file is a header (two zero bytes, one byte for the element type, one for the number of dimensions, then
each size as 4 bytes, most significant first) and the elements in row-major order: 16 bytes come before the
pixels of an image file, 8 before the labels. A plain file is memory-mapped, a gzipped one unpacked into memory.
"""

import hashlib
import logging
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from project.data.settings import DatasetName
from project.data.sources.download import DEBIAN_PACKAGE, fetch_with_apt, fetch_with_torchvision, locked
from project.data.sources.idx import idx_header, last_line, own_or_again, read_idx, size_text, write_idx
from project.data.sources.known_sets import (
    FILES,
    KNOWN_SETS,
    KnownSet,
    file_list,
    find_file,
    missing_files,
    what_is_missing,
)
from project.errors import InputError

log = logging.getLogger("project")

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
MAX_HASHED_BYTES = 1 << 30
"""Largest ``idx`` file that is hashed whole; of a larger one only the size and both ends are."""
HASHED_END_BYTES = 64 << 20


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """Images and their labels, in the order of the files."""

    images: Tensor
    """uint8, (n, height, width); a private copy-on-write memory map where the file is uncompressed."""
    labels: Tensor
    """int64, (n,)."""


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """A checked data set with its origin."""

    name: DatasetName
    train: ImageSplit
    test: ImageSplit
    class_names: tuple[str, ...]
    source: str
    """In words: which source, and which folder."""
    sha256: dict[str, str]
    """Hex digest of each uncompressed file by its name, which says so where only part of a file was hashed."""


def load_dataset(name: DatasetName, root: Path, download: bool = True) -> ImageDataset:
    """Find, fetch where needed, check and open a data set.

    Args:
        name: ``mnist`` and ``fashion_mnist`` are checked against known digests; ``idx`` means four files of the
            user's own in ``root`` itself (`FILES`), plain or gzipped, with images of any one size and up to 256
            classes, numbered from 0 to the largest training label.
        root: Folder of the data. It is written to only where something is fetched.
        download: Whether to go on to the network where the files are not on this machine.

    Raises:
        InputError: If the data cannot be found or fetched, or a file is not exactly what it should be.
    """
    root = Path(root).expanduser()
    if name == "idx":
        if missing := missing_files(root):
            raise InputError(
                f"{what_is_missing(root, missing)}, which data.dataset idx reads.",
                f"Put {file_list()} into one folder, and give it as --data.root.",
            )
        return _load_folder(name, root, f"files in {root}")
    if name not in KNOWN_SETS:
        raise InputError(
            f"There is no data set named {name!r}.",
            f"Choose --data.dataset from {', '.join(KNOWN_SETS)}, idx.",
        )

    folder = root / KNOWN_SETS[name].folder / "raw"
    if not (missing := missing_files(folder)):
        return _load_folder(name, folder, f"files in {folder}")
    tried = [what_is_missing(folder, missing)]
    if name == "fashion_mnist":
        if not (missing := missing_files(DEBIAN_FOLDER)):
            return _load_folder(name, DEBIAN_FOLDER, f"Debian's package {DEBIAN_PACKAGE}, files in {DEBIAN_FOLDER}")
        tried.append(f"package {DEBIAN_PACKAGE}: {what_is_missing(DEBIAN_FOLDER, missing)}")
    if download:
        how = _fetch(name, folder, tried)
        if how is not None:
            return _load_folder(name, folder, f"{how}, files in {folder}")
    else:
        tried.append("downloading is switched off")
    raise InputError(
        f"{KNOWN_SETS[name].folder} was not found. "
        + "; ".join(f"({i}) {why}" for i, why in enumerate(tried, 1))
        + ".",
        ("Connect this machine to the internet and run again" if download else "Add --data.download true")
        + f", or put {file_list()} into {folder}.",
    )


def _load_folder(name: DatasetName, folder: Path, source: str) -> ImageDataset:
    """Read and check the four files, all of which are there."""
    known = KNOWN_SETS.get(name)
    paths = {stem: find_file(folder, stem) or folder / stem for pair in FILES for stem in pair}
    arrays: dict[str, Tensor] = {}
    for split, (images, labels) in enumerate(FILES):
        shape = known.shapes[split] if known else (None, None, None)
        arrays[images] = read_idx(paths[images], shape)
        arrays[labels] = read_idx(paths[labels], shape[:1])
        if len(arrays[images]) != len(arrays[labels]):
            raise InputError(
                f"{paths[images]} holds {len(arrays[images]):,} images, {paths[labels]} "
                f"{len(arrays[labels]):,} labels; one label for each image is expected.",
                "Give the two files that were written together.",
            )
    (train_images, train_labels), (test_images, test_labels) = FILES
    if arrays[train_images].shape[1:] != arrays[test_images].shape[1:]:
        raise InputError(
            f"{paths[train_images]} holds images of {size_text(arrays[train_images].shape[1:])} pixels, "
            f"{paths[test_images]} of {size_text(arrays[test_images].shape[1:])}; both must be of one size.",
            "Bring all images to one size, and write both files again.",
        )

    class_names = known.class_names if known else tuple(map(str, range(int(arrays[train_labels].max()) + 1)))
    for stem in (train_labels, test_labels):
        largest = int(arrays[stem].max())
        if largest >= len(class_names):
            where = int(arrays[stem].argmax())
            raise InputError(
                f"{paths[stem]} has label {largest} at position {where}; 0 to {len(class_names) - 1} are expected"
                + ("." if known else f", the labels of {paths[train_labels]}."),
                own_or_again(paths[stem]) if known else "Number the classes from 0, alike in both label files.",
            )
    if not known and len(unused := (torch.bincount(arrays[train_labels]) == 0).nonzero()):
        log.warning(
            "%s has no example of %d of its %d classes, the first being %d.",
            paths[train_labels],
            len(unused),
            len(class_names),
            int(unused[0]),
        )

    sha256: dict[str, str] = {}
    for stem, array in arrays.items():
        label, digest = _digest(stem, array, whole=known is not None)
        sha256[label] = digest
        if known and digest != known.sha256[stem]:
            raise InputError(
                f"{paths[stem]} is not {known.folder}'s: the SHA-256 of its uncompressed bytes is {digest}; "
                f"{known.sha256[stem]} is expected.",
                own_or_again(paths[stem]),
            )
    train, test = (ImageSplit(arrays[images], arrays[labels].long()) for images, labels in FILES)
    return ImageDataset(name, train, test, class_names, source, sha256)


def _digest(stem: str, array: Tensor, whole: bool) -> tuple[str, str]:
    """What was hashed, and the SHA-256 of the uncompressed file, which is the header and the elements."""
    digest = hashlib.sha256(idx_header(array.shape))
    content = array.numpy().reshape(-1).data
    if whole or len(content) <= MAX_HASHED_BYTES:
        digest.update(content)
        return stem, digest.hexdigest()
    digest.update(content[:HASHED_END_BYTES])
    digest.update(content[-HASHED_END_BYTES:])
    return f"{stem} (header, first and last {HASHED_END_BYTES >> 20} MiB only)", digest.hexdigest()


def _fetch(name: DatasetName, folder: Path, tried: list[str]) -> str | None:
    """Bring a known set's missing files into ``folder``, uncompressed; in words how, or None if nothing worked.

    One process fetches while all others wait for it. Why something did not work is appended to ``tried``.
    """
    fetchers: list[tuple[str, Callable[[KnownSet, Path], Path]]] = [("torchvision's download", fetch_with_torchvision)]
    if name == "fashion_mnist":
        fetchers.append((f"Debian's package {DEBIAN_PACKAGE} fetched with apt", fetch_with_apt))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".fetch.lock"):
            if not missing_files(folder):
                return "fetched by another process"
            workspace = folder / ".fetch"
            for how, fetch in fetchers:
                shutil.rmtree(workspace, ignore_errors=True)  # also what a killed process left behind
                workspace.mkdir()
                try:
                    fetched = _load_folder(name, fetch(KNOWN_SETS[name], workspace), how)
                    for split, stems in zip((fetched.train, fetched.test), FILES, strict=True):
                        for stem, array in zip(stems, (split.images, split.labels), strict=True):
                            if (
                                find_file(folder, stem) is None
                            ):  # what is there is checked like any file, never replaced
                                write_idx(folder / stem, array.to(torch.uint8))
                    return how
                except InputError as error:
                    tried.append(f"{how}: {error.cause.rstrip('.')}")
                except (RuntimeError, subprocess.SubprocessError) as error:
                    tried.append(f"{how}: {last_line(error)}")
                finally:
                    shutil.rmtree(workspace, ignore_errors=True)
    except OSError as error:
        tried.append(f"cannot write to {folder}: {last_line(error)}")
    return None
