"""Where MNIST, FashionMNIST and a user's own IDX files come from; every byte is checked before it is used.

    from project.datasets import load_dataset
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

import gzip
import hashlib
import logging
import math
import os
import shutil
import socket
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import filelock
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from project.errors import InputError

DatasetName = Literal["mnist", "fashion_mnist", "idx"]

FILES = (
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
)
"""Image and label file of the training split, then of the test split; ``.gz`` may follow each name."""

DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")

STALL_TIMEOUT_S = 5.0
"""A server that does not answer, or pauses, for so long is given up."""
APT_TIMEOUT_S = 900.0
"""Longest time for one call of apt-get; some 30 MB pass through it."""
LOCK_TIMEOUT_S = 1800.0
"""Longest wait for another process that is fetching the same data."""
MAX_GZIP_BYTES = 2 << 30
"""Largest gzipped file, counted unpacked, that is read; a larger one is to be unpacked once and memory-mapped."""
MAX_HASHED_BYTES = 1 << 30
"""Largest ``idx`` file that is hashed whole; of a larger one only the size and both ends are."""
HASHED_END_BYTES = 64 << 20

_GZIP_MAGIC = b"\x1f\x8b"
_MAX_DEFLATE_RATIO = 1032  # 258 bytes from 2 bits is the most that DEFLATE can do
_CHUNK_BYTES = 1 << 18
_UNSIGNED_BYTE = 0x08
_OTHER_TYPES = {
    0x09: "signed bytes",
    0x0B: "16-bit integers",
    0x0C: "32-bit integers",
    0x0D: "32-bit floats",
    0x0E: "64-bit floats",
}

_logger = logging.getLogger("project")


@dataclass(frozen=True)
class KnownSet:
    """A published data set: what its four files must hold."""

    folder: str
    """Its name: of the folder under ``root`` in torchvision's layout, and of torchvision's class."""
    class_names: tuple[str, ...]
    shapes: tuple[tuple[int, int, int], tuple[int, int, int]]
    """(n, height, width) of the training and of the test images."""
    sha256: dict[str, str]
    """Digest of each uncompressed file, header included."""


KNOWN_SETS: dict[str, KnownSet] = {
    "mnist": KnownSet(
        folder="MNIST",
        class_names=tuple("0123456789"),
        shapes=((60_000, 28, 28), (10_000, 28, 28)),
        sha256={
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
    ),
    "fashion_mnist": KnownSet(
        folder="FashionMNIST",
        class_names=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        shapes=((60_000, 28, 28), (10_000, 28, 28)),
        sha256={
            "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
    ),
}


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
        if missing := _missing(root):
            raise InputError(
                f"{_lack(root, missing)}, which data.dataset idx reads.",
                f"Put {_file_list()} into one folder, and give it as --data.root.",
            )
        return _load_folder(name, root, f"files in {root}")
    if name not in KNOWN_SETS:
        raise InputError(
            f"There is no data set named {name!r}.",
            f"Choose --data.dataset from {', '.join(KNOWN_SETS)}, idx.",
        )

    folder = root / KNOWN_SETS[name].folder / "raw"
    if not (missing := _missing(folder)):
        return _load_folder(name, folder, f"files in {folder}")
    tried = [_lack(folder, missing)]
    if name == "fashion_mnist":
        if not (missing := _missing(DEBIAN_FOLDER)):
            return _load_folder(name, DEBIAN_FOLDER, f"Debian's package {DEBIAN_PACKAGE}, files in {DEBIAN_FOLDER}")
        tried.append(f"package {DEBIAN_PACKAGE}: {_lack(DEBIAN_FOLDER, missing)}")
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
        + f", or put {_file_list()} into {folder}.",
    )


def idx_header(shape: Sequence[int]) -> bytes:
    """The first 4 + 4 × dimensions bytes of an IDX file of unsigned bytes."""
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, _UNSIGNED_BYTE, len(shape), *shape)


def write_idx(path: Path, array: Tensor) -> None:
    """Write an uncompressed IDX file of unsigned bytes; the file appears whole or not at all.

    Args:
        path: The file, which is replaced where it exists.
        array: uint8, images (n, height, width) or labels (n,).
    """
    if array.dtype != torch.uint8:
        raise ValueError(f"an IDX file of unsigned bytes takes a uint8 tensor, not {array.dtype}")
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            file.write(idx_header(array.shape))
            file.write(array.cpu().contiguous().numpy().reshape(-1).data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_idx(path: Path, shape: tuple[int | None, ...]) -> Tensor:
    """Open an IDX file of unsigned bytes, plain or gzipped, which its first bytes tell.

    Memory stays bounded whatever the file says: sizes are compared with the expected ones and with the file's
    length before anything is allocated, and no more is unpacked than the header announces.

    Args:
        path: The file.
        shape: The size expected of each dimension; None where any size above 0 will do. Images have three
            dimensions, labels one.

    Returns:
        uint8 tensor with the sizes of the header. From a plain file it is a private copy-on-write memory map.

    Raises:
        InputError: If the file cannot be read, or its header or its exact length is not as expected.
    """
    try:
        with path.open("rb") as file:
            num_bytes = os.fstat(file.fileno()).st_size
            gzipped = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            if gzipped:
                with gzip.GzipFile(fileobj=file, mode="rb") as stream:
                    return torch.from_numpy(_unpack(path, stream, shape, num_bytes))
            sizes = _read_header(path, file, shape)
            offset = len(idx_header(sizes))
            if num_bytes != offset + math.prod(sizes):
                raise _wrong_length(path, sizes, num_bytes - offset)
            return torch.from_numpy(np.memmap(file, np.uint8, "c", offset, sizes))
    except (OSError, EOFError, zlib.error) as error:  # gzip's errors are OSErrors
        raise InputError(f"{path} cannot be read: {_last_line(error)}.", _get_again(path)) from error


class _Stream(Protocol):
    def read1(self, size: int, /) -> bytes: ...


def _unpack(path: Path, stream: _Stream, shape: tuple[int | None, ...], num_packed: int) -> npt.NDArray[np.uint8]:
    """The elements of a gzipped IDX file of ``num_packed`` bytes."""
    sizes = _read_header(path, stream, shape)
    expected = math.prod(sizes)
    if expected > _MAX_DEFLATE_RATIO * num_packed:
        raise InputError(
            f"{path} announces {_times(sizes)} = {expected:,} bytes; its {num_packed:,} bytes of gzip can hold at "
            f"most {_MAX_DEFLATE_RATIO * num_packed:,}.",
            _get_again(path),
        )
    if expected > MAX_GZIP_BYTES:
        raise InputError(
            f"{path} holds {_times(sizes)} = {expected:,} bytes when unpacked; at most {MAX_GZIP_BYTES:,} are "
            "unpacked into memory.",
            f"Run `gunzip {path}` once: a plain file is memory-mapped, at any size.",
        )
    array = np.empty(sizes, np.uint8)
    filled = _fill(stream, array.reshape(-1).data)
    if filled != expected:
        raise _wrong_length(path, sizes, filled)
    # Asking for one byte more also makes gzip compare its checksum.
    if stream.read1(1):
        raise _wrong_length(path, sizes, None)
    return array


def _fill(stream: _Stream, buffer: memoryview) -> int:
    """Read until the buffer is full or the stream ends; the number of bytes read."""
    filled = 0
    while filled < len(buffer):
        try:
            chunk = stream.read1(min(_CHUNK_BYTES, len(buffer) - filled))
        except EOFError:  # a gzip stream cut short: the caller sees it by the count
            break
        if not chunk:
            break
        buffer[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    return filled


def _read_header(path: Path, stream: _Stream, shape: tuple[int | None, ...]) -> tuple[int, ...]:
    """The sizes that the header gives, after every check that needs no more than the header."""
    header = bytearray(4 + 4 * len(shape))
    start = bytes(header[: _fill(stream, memoryview(header))])
    magic = bytes((0, 0, _UNSIGNED_BYTE, len(shape)))
    if not start:
        raise InputError(
            f"{path} is empty; {len(header)} bytes of header and then data are expected.", _get_again(path)
        )
    if start.lstrip()[:1] == b"<":
        raise InputError(
            f"{path} is a web page, not data: it starts with {start!r}; bytes {magic.hex(' ')} are expected.",
            f"{_get_again(path)} A page in place of a file often means a wrong address or a log-in.",
        )
    if start[:4] != magic:
        if len(start) >= 4 and start[:3] == magic[:3]:
            raise InputError(
                f"{path} has {start[3]} dimension(s); {len(shape)} are expected ({_meaning(shape)}).",
                "Images (3 dimensions) go into …-images-idx3-ubyte, labels (1 dimension) into …-labels-idx1-ubyte.",
            )
        if len(start) >= 4 and start[:2] == magic[:2] and start[2] in _OTHER_TYPES:
            raise InputError(
                f"{path} holds {_OTHER_TYPES[start[2]]} (element type {start[2]:#04x}); unsigned bytes "
                f"({_UNSIGNED_BYTE:#04x}) are expected.",
                "Write pixels and labels as unsigned bytes, 0 to 255.",
            )
        raise InputError(
            f"{path} is not an IDX file of {_meaning(shape)}: it starts with bytes {start[:4].hex(' ')}; "
            f"{magic.hex(' ')} are expected.",
            _get_again(path),
        )
    if len(start) < len(header):
        raise InputError(
            f"{path} ends within its header: {len(header)} bytes are expected, {len(start)} were found.",
            _get_again(path),
        )
    sizes = struct.unpack_from(f">{len(shape)}I", start, 4)
    if 0 in sizes:
        raise InputError(
            f"{path} announces {_times(sizes)} ({_meaning(shape)}); every size must be above 0.",
            _get_again(path),
        )
    if any(want not in (None, size) for want, size in zip(shape, sizes, strict=True)):
        raise InputError(
            f"{path} holds {_times(sizes)} ({_meaning(shape)}); {_times(shape)} is expected.",
            _own_or_again(path),
        )
    return sizes


def _load_folder(name: DatasetName, folder: Path, source: str) -> ImageDataset:
    """Read and check the four files, all of which are there."""
    known = KNOWN_SETS.get(name)
    paths = {stem: _find(folder, stem) or folder / stem for pair in FILES for stem in pair}
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
            f"{paths[train_images]} holds images of {_times(arrays[train_images].shape[1:])} pixels, "
            f"{paths[test_images]} of {_times(arrays[test_images].shape[1:])}; both must be of one size.",
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
                _own_or_again(paths[stem]) if known else "Number the classes from 0, alike in both label files.",
            )
    if not known and len(unused := (torch.bincount(arrays[train_labels]) == 0).nonzero()):
        _logger.warning(
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
                _own_or_again(paths[stem]),
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
    fetchers: list[tuple[str, Callable[[KnownSet, Path], Path]]] = [("torchvision's download", _fetch_with_torchvision)]
    if name == "fashion_mnist":
        fetchers.append((f"Debian's package {DEBIAN_PACKAGE} fetched with apt", _fetch_with_apt))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / ".fetch.lock"):
            if not _missing(folder):
                return "fetched by another process"
            workspace = folder / ".fetch"
            for how, fetch in fetchers:
                shutil.rmtree(workspace, ignore_errors=True)  # also what a killed process left behind
                workspace.mkdir()
                try:
                    fetched = _load_folder(name, fetch(KNOWN_SETS[name], workspace), how)
                    for split, stems in zip((fetched.train, fetched.test), FILES, strict=True):
                        for stem, array in zip(stems, (split.images, split.labels), strict=True):
                            if _find(folder, stem) is None:  # what is there is checked like any file, never replaced
                                write_idx(folder / stem, array.to(torch.uint8))
                    return how
                except InputError as error:
                    tried.append(f"{how}: {error.cause.rstrip('.')}")
                except (RuntimeError, subprocess.SubprocessError) as error:
                    tried.append(f"{how}: {_last_line(error)}")
                finally:
                    shutil.rmtree(workspace, ignore_errors=True)
    except OSError as error:
        tried.append(f"cannot write to {folder}: {_last_line(error)}")
    return None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock, waiting a limited time for another process; the operating system frees a dead one's."""
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        _logger.info("Another process is fetching into %s; waiting for it.", path.parent)
        lock.acquire(timeout=LOCK_TIMEOUT_S)  # filelock.Timeout is an OSError
    try:
        yield
    finally:
        lock.release()


def _fetch_with_torchvision(known: KnownSet, workspace: Path) -> Path:
    """Have torchvision download and unpack the four files; the folder that holds them."""
    try:
        # Imported only here: it takes longer than loading the data does.
        from torchvision import datasets
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision built for another torch
        raise RuntimeError(f"torchvision cannot be imported ({_last_line(error)})") from error
    published = getattr(datasets, known.folder)
    reasons = []
    # torchvision sets no timeout and a silent server would hold it for minutes; only the default is in reach.
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_TIMEOUT_S)
    try:
        # One mirror at a time: torchvision goes on to the next after some errors, but not after a timeout.
        for mirror in published.mirrors:
            _logger.info("Downloading %s (11 to 31 MB) from %s", known.folder, mirror)
            from_mirror = type(known.folder, (published,), {"mirrors": [mirror]})
            try:
                from_mirror(workspace, train=False, download=True)
            except Exception as error:  # whatever fails in there, the next source is tried and the reason reported
                reasons.append(f"{mirror} ({_last_line(error)})")
            else:
                return workspace / known.folder / "raw"
    finally:
        socket.setdefaulttimeout(timeout)
    raise RuntimeError(", ".join(reasons))


def _fetch_with_apt(known: KnownSet, workspace: Path) -> Path:
    """Fetch and unpack Debian's package, which takes neither root nor installing; the folder of its files."""
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise RuntimeError(f"there is no {program} here")
    workspace = workspace.resolve()
    options = {
        # Lists and caches of our own need no root, and leave the system's alone.
        "Dir::State::Lists": workspace / "lists",
        "Dir::Cache": workspace,
        # Run by root, apt would hand the download to a user who may not write to the workspace.
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::Retries": 0,
        "Acquire::http::Timeout": int(STALL_TIMEOUT_S),
        "Acquire::https::Timeout": int(STALL_TIMEOUT_S),
    }
    for name in ("lists", "archives"):
        (workspace / name / "partial").mkdir(parents=True)
    apt_get = ["apt-get", "-q", *(f"-o{key}={value}" for key, value in options.items())]
    _logger.info("Fetching the package lists, and then Debian's package %s (31 MB), with apt-get", DEBIAN_PACKAGE)
    # One broken source among many makes the update fail, and need not matter: the download decides.
    update = _run([*apt_get, "update"], workspace)
    download = _run([*apt_get, "download", DEBIAN_PACKAGE], workspace)
    packages = list(workspace.glob(f"{DEBIAN_PACKAGE}_*.deb"))
    if download.returncode or len(packages) != 1:
        complaints = [*update.stderr.splitlines()[:1], *download.stderr.splitlines()[-1:]]
        raise RuntimeError(" and ".join(complaints) or f"apt-get ended with status {download.returncode}")
    unpacked = _run(["dpkg-deb", "--extract", str(packages[0]), str(workspace / "unpacked")], workspace)
    if unpacked.returncode:
        raise RuntimeError(_last_line(unpacked.stderr))
    folders = {path.parent for path in (workspace / "unpacked").rglob(f"{FILES[0][0]}*")}
    if len(folders) != 1 or _missing(*folders):
        raise RuntimeError(f"{packages[0].name} does not hold the four files of {known.folder}")
    return folders.pop()


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program of the system: its progress goes to this process's stderr, its complaints come back."""
    return subprocess.run(  # noqa: S603 - fixed programs, no shell
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=2,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        timeout=APT_TIMEOUT_S,
        check=False,
    )


def _find(folder: Path, stem: str) -> Path | None:
    """The plain file, else the gzipped one, else None."""
    for path in (folder / stem, folder / f"{stem}.gz"):
        try:
            if path.is_file():
                return path
        except PermissionError as error:
            raise InputError(f"{folder} may not be read.", f"Give yourself access to {folder}.") from error
    return None


def _missing(folder: Path) -> list[str]:
    return [stem for pair in FILES for stem in pair if _find(folder, stem) is None]


def _lack(folder: Path, missing: list[str]) -> str:
    if not folder.is_dir():
        return f"{folder} is not a folder" if folder.exists() else f"{folder} does not exist"
    return f"{folder} lacks {', '.join(missing)}"


def _file_list() -> str:
    return f"{', '.join(stem for pair in FILES for stem in pair)} (plain or .gz)"


def _wrong_length(path: Path, sizes: tuple[int, ...], found: int | None) -> InputError:
    """The error for ``found`` bytes of elements, None meaning too many."""
    expected = math.prod(sizes)
    short = found is not None and found < expected
    return InputError(
        f"{path} {'is cut short' if short else 'has bytes after its end'}: {_times(sizes)} = {expected:,} bytes are "
        f"expected after the header, {'more' if found is None else f'{found:,}'} were found.",
        _get_again(path),
    )


def _get_again(path: Path) -> str:
    return f"Replace {path} by a whole copy; one of MNIST or FashionMNIST may be deleted and is fetched again."


def _own_or_again(path: Path) -> str:
    return f"Delete {path} and run again to fetch it; for images of your own choose --data.dataset idx."


def _times(sizes: Sequence[int | None]) -> str:
    return " × ".join("any" if size is None else str(size) for size in sizes)


def _meaning(shape: tuple[int | None, ...]) -> str:
    return "labels" if len(shape) == 1 else "images × height × width"


def _last_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip().rstrip(".") if lines else type(error).__name__
