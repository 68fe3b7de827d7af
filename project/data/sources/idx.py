"""IDX files (N1): read, checked and written."""

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
"""Largest gzipped file, counted unpacked, that is read; a larger one is to be unpacked once and memory-mapped."""
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
        raise InputError(f"{path} cannot be read: {last_line(error)}.", _get_again(path)) from error


class _Stream(Protocol):
    def read1(self, size: int, /) -> bytes: ...


def _unpack(path: Path, stream: _Stream, shape: tuple[int | None, ...], num_packed: int) -> npt.NDArray[np.uint8]:
    """The elements of a gzipped IDX file of ``num_packed`` bytes."""
    sizes = _read_header(path, stream, shape)
    expected = math.prod(sizes)
    if expected > _MAX_DEFLATE_RATIO * num_packed:
        raise InputError(
            f"{path} announces {size_text(sizes)} = {expected:,} bytes; its {num_packed:,} bytes of gzip can hold at "
            f"most {_MAX_DEFLATE_RATIO * num_packed:,}.",
            _get_again(path),
        )
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
            f"{path} announces {size_text(sizes)} ({_meaning(shape)}); every size must be above 0.",
            _get_again(path),
        )
    if any(want not in (None, size) for want, size in zip(shape, sizes, strict=True)):
        raise InputError(
            f"{path} holds {size_text(sizes)} ({_meaning(shape)}); {size_text(shape)} is expected.",
            own_or_again(path),
        )
    return sizes


def _wrong_length(path: Path, sizes: tuple[int, ...], found: int | None) -> InputError:
    """The error for ``found`` bytes of elements, None meaning too many."""
    expected = math.prod(sizes)
    short = found is not None and found < expected
    return InputError(
        f"{path} {'is cut short' if short else 'has bytes after its end'}: {size_text(sizes)} = {expected:,} bytes are "
        f"expected after the header, {'more' if found is None else f'{found:,}'} were found.",
        _get_again(path),
    )


def _get_again(path: Path) -> str:
    return f"Replace {path} by a whole copy; one of MNIST or FashionMNIST may be deleted and is fetched again."


def own_or_again(path: Path) -> str:
    return f"Delete {path} and run again to fetch it; for images of your own choose --data.dataset idx."


def size_text(sizes: Sequence[int | None]) -> str:
    return " × ".join("any" if size is None else str(size) for size in sizes)


def _meaning(shape: tuple[int | None, ...]) -> str:
    return "labels" if len(shape) == 1 else "images × height × width"


def last_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip().rstrip(".") if lines else type(error).__name__
