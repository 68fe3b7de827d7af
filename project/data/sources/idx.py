"""IDX files: read, checked and written.

The header has two zero bytes, one byte for the element type, one for the number of dimensions, and each size as 4
bytes, most significant first. The elements follow in row-major order.
"""

import gzip
import math
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from project.errors import InputError

MAX_GZIP_BYTES = 2 << 30
"""The largest gzipped file, counted unpacked, that is read; a larger one must be unpacked first and is then mapped."""
_GZIP_MAGIC = b"\x1f\x8b"
_MAX_DEFLATE_RATIO = 1032  # 258 bytes from 2 bits: DEFLATE cannot pack more tightly
_CHUNK_BYTES = 1 << 18
_UNSIGNED_BYTE = 0x08
# fmt: off
_OTHER_TYPES = {
    0x09: "signed bytes", 0x0B: "16-bit integers", 0x0C: "32-bit integers",
    0x0D: "32-bit floats", 0x0E: "64-bit floats",
}
# fmt: on


def idx_header(shape: Sequence[int]) -> bytes:
    """The first 4 + 4 × dimensions bytes of an IDX file of unsigned bytes."""
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, _UNSIGNED_BYTE, len(shape), *shape)


def write_idx(path: Path, array: Tensor) -> None:
    """Write images (n, height, width) or labels (n,), uint8, uncompressed; the file appears whole or not at all."""
    assert array.dtype == torch.uint8, "an IDX file of unsigned bytes"
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
    """Open an IDX file of unsigned bytes, plain or gzipped; its first bytes, not its name, decide which.

    Memory stays bounded whatever the file says: sizes are compared with the expected ones and with the file's
    length before anything is allocated, and no more is unpacked than the header announces.

    Args:
        path: The file to read.
        shape: The size expected of each dimension, or None where any size above 0 is right. Images have three
            dimensions, labels one.

    Returns:
        A uint8 tensor with the sizes of the header. From a plain file it is a private copy-on-write memory map.

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
        raise _damaged(path, f"cannot be read: {last_line(error)}.") from error


class _Stream(Protocol):
    def read1(self, size: int, /) -> bytes: ...


def _unpack(path: Path, stream: _Stream, shape: tuple[int | None, ...], num_packed: int) -> npt.NDArray[np.uint8]:
    """The elements of a gzipped IDX file of ``num_packed`` bytes."""
    sizes = _read_header(path, stream, shape)
    expected = math.prod(sizes)
    if expected > (possible := _MAX_DEFLATE_RATIO * num_packed):
        what = f"announces {size_text(sizes)} = {expected:,} bytes"
        raise _damaged(path, f"{what}; its {num_packed:,} bytes of gzip can hold at most {possible:,}.")
    if expected > MAX_GZIP_BYTES:
        raise InputError(
            f"{path} holds {size_text(sizes)} = {expected:,} bytes when unpacked; at most {MAX_GZIP_BYTES:,} are "
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
    meaning = "labels" if len(shape) == 1 else "images × height × width"
    if not start:
        raise _damaged(path, f"is empty; {len(header)} bytes of header and then data are expected.")
    if start.lstrip()[:1] == b"<":
        what = f"is a web page, not data: it starts with {start!r}; bytes {magic.hex(' ')} are expected."
        raise _damaged(path, what, " A page in place of a file often means a wrong address or a log-in.")
    if len(start) >= 4 and start[:3] == magic[:3] and start[3] != magic[3]:
        raise InputError(
            f"{path} has {start[3]} dimension(s); {len(shape)} are expected ({meaning}).",
            "Images (3 dimensions) go into …-images-idx3-ubyte, labels (1 dimension) into …-labels-idx1-ubyte.",
        )
    if len(start) >= 4 and start[:2] == magic[:2] and start[2] in _OTHER_TYPES:
        found = f"{_OTHER_TYPES[start[2]]} (element type {start[2]:#04x})"
        remedy = "Write pixels and labels as unsigned bytes, 0 to 255."
        raise InputError(f"{path} holds {found}; unsigned bytes ({_UNSIGNED_BYTE:#04x}) are expected.", remedy)
    if start[:4] != magic:
        found, expected = start[:4].hex(" "), magic.hex(" ")
        raise _damaged(path, f"is not an IDX file of {meaning}: it starts with bytes {found}; {expected} are expected.")
    if len(start) < len(header):
        raise _damaged(path, f"ends within its header: {len(header)} bytes are expected, {len(start)} were found.")
    sizes = struct.unpack_from(f">{len(shape)}I", start, 4)
    if 0 in sizes:
        raise _damaged(path, f"announces {size_text(sizes)} ({meaning}); every size must be above 0.")
    if any(want not in (None, size) for want, size in zip(shape, sizes, strict=True)):
        what = f"holds {size_text(sizes)} ({meaning}); {size_text(shape)} is expected."
        raise InputError(f"{path} {what}", own_or_again(path))
    return sizes


def _wrong_length(path: Path, sizes: tuple[int, ...], found: int | None) -> InputError:
    """The error for ``found`` bytes of elements, where None means too many."""
    expected = math.prod(sizes)
    what = "is cut short" if found is not None and found < expected else "has bytes after its end"
    number = "more" if found is None else f"{found:,}"
    what += f": {size_text(sizes)} = {expected:,} bytes are expected after the header, {number} were found."
    return _damaged(path, what)


def _damaged(path: Path, what: str, hint: str = "") -> InputError:
    """The error for a file that must be replaced."""
    again = f"Replace {path} by a whole copy; one of MNIST or FashionMNIST may be deleted and is fetched again."
    return InputError(f"{path} {what}", again + hint)


def own_or_again(path: Path) -> str:
    return f"Delete {path} and run again to fetch it; for images of your own choose --data.dataset idx."


def size_text(sizes: Sequence[int | None]) -> str:
    return " × ".join("any" if size is None else str(size) for size in sizes)


def last_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip().rstrip(".") if lines else type(error).__name__
