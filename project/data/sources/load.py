"""Where MNIST, the sets in its format and a user's own IDX files come from; all bytes are checked before they are used.

    load_dataset("fashion_mnist", Path("data")).train.images  # uint8 (60000, 28, 28)

The known sets are looked for in this order:

1. ``root`` in torchvision's layout (``root/MNIST/raw``, ``root/FashionMNIST/raw``, …), plain or gzipped;
2. FashionMNIST: the folder of Debian's and Ubuntu's package ``dataset-fashion-mnist``;
3. torchvision's own download;
4. FashionMNIST: that package, fetched with apt without being root and unpacked under ``root``;
5. an error that says what was tried, and what to do.

A plain file is memory-mapped, a gzipped one is unpacked into memory.
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

from project.data.sources.download import DEBIAN_PACKAGE, NO_DOWNLOAD, fetch_with_apt, fetch_with_torchvision, locked
from project.data.sources.idx import idx_header, last_line, own_or_again, read_idx, size_text, write_idx
from project.data.sources.known_sets import FILE_LIST, FILES, KNOWN_SETS, KnownSet, find_file, what_is_missing
from project.errors import InputError

log = logging.getLogger("project")

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
MAX_HASHED_BYTES = 1 << 30
"""The largest ``idx`` file that is hashed whole; of a larger one only the size and both ends are."""
HASHED_END_BYTES = 64 << 20


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """Images and their labels, in the order of the files.

    Attributes:
        images: uint8 (n, height, width), or (n, height, width, channels) with two channels or more.
        labels: Classes, int64 (n,); or numbers that only a regression can learn, float32 (n,).
    """

    images: Tensor
    labels: Tensor


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """A checked data set.

    Attributes:
        name: The source's name.
        train: The training set, from which validation is cut.
        test: The test set.
        class_names: The names in the order of the labels; empty where the labels are numbers.
        source: Where it is from, in words.
        sha256: A digest by each file's name.
    """

    name: str
    train: ImageSplit
    test: ImageSplit
    class_names: tuple[str, ...]
    source: str
    sha256: dict[str, str]


def load_dataset(name: str, root: Path, download: bool = True) -> ImageDataset:
    """Find, fetch where needed, check and open a data set.

    Args:
        name: A known set, whose files are checked against digests where these are known; or ``idx``, the user's own
            four files in ``root`` itself (`FILES`), plain or gzipped, with images of any one size and at most 256
            classes, numbered from 0 to the largest training label.
        root: The folder of the data. Nothing is written to it unless something is fetched.
        download: Whether to fetch the files where they are not on this machine.

    Raises:
        InputError: If the data cannot be found or fetched, or a file is not exactly what it should be.
    """
    root = Path(root).expanduser()
    if name == "idx":
        if missing := what_is_missing(root):
            remedy = f"Put {FILE_LIST} into one folder, and give it as --data.root."
            raise InputError(f"{missing}, which data.dataset idx reads.", remedy)
        return _load_folder(name, root, f"files in {root}")
    known = KNOWN_SETS[name]
    folder = root / known.folder / "raw"
    if not (missing := what_is_missing(folder, known.stems)):
        return _load_folder(name, folder, f"files in {folder}")
    tried = [missing]
    if name == "fashion_mnist":
        if not (missing := what_is_missing(DEBIAN_FOLDER)):
            return _load_folder(name, DEBIAN_FOLDER, f"Debian's package {DEBIAN_PACKAGE}, files in {DEBIAN_FOLDER}")
        tried.append(f"package {DEBIAN_PACKAGE}: {missing}")
    if not download:
        tried.append("downloading is switched off")
    elif how := _fetch(name, folder, tried):
        return _load_folder(name, folder, f"{how}, files in {folder}")
    reasons = "; ".join(f"({i}) {why}" for i, why in enumerate(tried, 1))
    remedy = "Connect this machine to the internet and run again" if download else NO_DOWNLOAD
    files = f"{', '.join(known.stems)} (plain or .gz)"
    raise InputError(f"{known.folder} was not found. {reasons}.", f"{remedy}, or put {files} into {folder}.")


def _load_folder(name: str, folder: Path, source: str) -> ImageDataset:
    """Read and check the four files, all of which are there."""
    known = KNOWN_SETS.get(name)
    arrays, class_names, sha256 = _checked_files(known, folder)

    def split(images: str, labels: str) -> ImageSplit:
        pictures = arrays[images]
        if known and known.transposed:
            pictures = pictures.transpose(1, 2).contiguous()
        return ImageSplit(pictures, arrays[labels].long())

    train, test = (split(*pair) for pair in (known.files if known else FILES))
    return ImageDataset(name, train, test, class_names, source, sha256)


def _checked_files(known: KnownSet | None, folder: Path) -> tuple[dict[str, Tensor], tuple[str, ...], dict[str, str]]:
    """The four files' elements by name, the classes' names, and the files' digests."""
    files = known.files if known else FILES
    paths = {stem: find_file(folder, stem) or folder / stem for pair in files for stem in pair}
    arrays: dict[str, Tensor] = {}
    for split, (images, labels) in enumerate(files):
        shape = known.shapes[split] if known else (None, None, None)
        arrays[images] = read_idx(paths[images], shape)
        arrays[labels] = read_idx(paths[labels], shape[:1])
        if len(arrays[images]) != len(arrays[labels]):
            what = f"holds {len(arrays[images]):,} images, {paths[labels]} {len(arrays[labels]):,} labels"
            remedy = "Give the two files that were written together."
            raise InputError(f"{paths[images]} {what}; one label for each image is expected.", remedy)
    (train_images, train_labels), (test_images, test_labels) = files
    size, test_size = arrays[train_images].shape[1:], arrays[test_images].shape[1:]
    if size != test_size:
        what = f"holds images of {size_text(size)} pixels, {paths[test_images]} of {size_text(test_size)}"
        remedy = "Bring all images to one size, and write both files again."
        raise InputError(f"{paths[train_images]} {what}; both must be of one size.", remedy)

    class_names = known.class_names if known else tuple(map(str, range(int(arrays[train_labels].max()) + 1)))
    for stem in (train_labels, test_labels):
        where, largest = int(arrays[stem].argmax()), int(arrays[stem].max())
        if largest >= len(class_names):
            raise InputError(
                f"{paths[stem]} has label {largest} at position {where}; 0 to {len(class_names) - 1} are "
                + ("expected." if known else f"expected, the labels of {paths[train_labels]}."),
                own_or_again(paths[stem]) if known else "Number the classes from 0, alike in both label files.",
            )
    if not known and len(unused := (torch.bincount(arrays[train_labels]) == 0).nonzero()):
        message = "%s has no example of %d of its %d classes, the first being %d."
        log.warning(message, paths[train_labels], len(unused), len(class_names), int(unused[0]))

    sha256: dict[str, str] = {}
    for stem, array in arrays.items():
        label, digest = _digest(stem, array, whole=known is not None)
        sha256[label] = digest
        if known and digest != known.sha256.get(stem, digest):
            what = f"is not {known.folder}'s: the SHA-256 of its uncompressed bytes is {digest}"
            raise InputError(f"{paths[stem]} {what}; {known.sha256[stem]} is expected.", own_or_again(paths[stem]))
    return arrays, class_names, sha256


def _digest(stem: str, array: Tensor, whole: bool) -> tuple[str, str]:
    """What was hashed, and the SHA-256 of the uncompressed file, which is the header and the elements."""
    digest, content = hashlib.sha256(idx_header(array.shape)), array.numpy().reshape(-1).data
    parts = [content]
    if not whole and len(content) > MAX_HASHED_BYTES:
        parts = [content[:HASHED_END_BYTES], content[-HASHED_END_BYTES:]]
        stem += f" (header, first and last {HASHED_END_BYTES >> 20} MiB only)"
    for part in parts:
        digest.update(part)
    return stem, digest.hexdigest()


def _fetch(name: str, folder: Path, tried: list[str]) -> str | None:
    """Bring a known set's missing files into ``folder``, uncompressed. Returns in words how; None if nothing worked.

    One process fetches while all others wait for it. The reason why something did not work is appended to ``tried``.
    """
    known = KNOWN_SETS[name]
    fetchers: list[tuple[str, Callable[[KnownSet, Path], Path]]] = [("torchvision's download", fetch_with_torchvision)]
    if name == "fashion_mnist":
        fetchers.append((f"Debian's package {DEBIAN_PACKAGE} fetched with apt", fetch_with_apt))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".fetch.lock"):
            if not what_is_missing(folder, known.stems):
                return "fetched by another process"
            workspace = folder / ".fetch"
            for how, fetch in fetchers:
                shutil.rmtree(workspace, ignore_errors=True)  # also what a killed process left behind
                workspace.mkdir()
                try:
                    for stem, array in _checked_files(known, fetch(known, workspace))[0].items():
                        if find_file(folder, stem) is None:  # a file that is there is checked, but never replaced
                            write_idx(folder / stem, array)
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
