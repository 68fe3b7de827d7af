"""Pictures and targets in NumPy's files: one `.npz`, or one `.npy` for each array.

    python scripts/train.py --data.dataset arrays --data.root measurements.npz

The arrays have keras' names: x_train, y_train, x_test, y_test; or train_images, train_labels, test_images, test_labels.
Without the last two, a test set is cut from the first two. An .npz may also hold class_names, a list of texts.
"""

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from project.data.sources.idx import last_line, size_text
from project.data.sources.load import ImageDataset, ImageSplit
from project.data.sources.pool import cut_test_set
from project.errors import InputError

NAMES = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
)
"""The names of training pictures and targets, then of those of the test set."""
NAME_LIST = " or ".join(", ".join(names) for names in NAMES)
MAX_CLASSES = 10_000
"""More classes than this are a mistake: identifiers, or numbers that a regression should learn."""
READ_ERRORS = (ValueError, OSError, EOFError, zipfile.BadZipFile)
Array = np.ndarray[Any, Any]


def load_arrays(root: Path, split_seed: int) -> ImageDataset:
    """Open and check pictures and targets.

    Args:
        root: An .npz file, a folder with one, or a folder with .npy files, which are mapped into memory.
        split_seed: It decides the test set where there is none: a sixth of every class, at least one picture.

    Returns:
        The data. Whole numbers as targets are classes; real numbers are for a regression alone, and have no names.

    Raises:
        InputError: If an array is missing, or is not what is expected of it.
    """
    root = root.expanduser()
    arrays, source = _open(root)
    names = next((names for names in NAMES if names[0] in arrays and names[1] in arrays), None)
    if names is None:
        raise InputError(
            f"{source} has {', '.join(sorted(arrays)) or 'no array'}; {NAME_LIST} are expected",
            f"save the arrays under these names, such as np.savez(FILE, {NAMES[0][0]}=…, {NAMES[0][1]}=…)",
        )
    parts = [names[:2], names[2:]] if names[2] in arrays or names[3] in arrays else [names[:2]]
    splits = []
    for images, targets in parts:
        for name in (images, targets):
            if name not in arrays:
                raise InputError(f"{source} has no {name}", f"save {images} and {targets} together")
        splits.append(_split(f"{source}: {images}", arrays[images], f"{source}: {targets}", arrays[targets]))
    digests = {name: _digest(array) for name, array in arrays.items() if name in names}
    if len(splits) == 1:
        whole = splits[0]
        chosen = cut_test_set(whole.labels, split_seed)
        splits = [ImageSplit(whole.images[indices], whole.labels[indices]) for indices in chosen]
    train, test = splits
    if train.images.shape[1:] != test.images.shape[1:]:
        raise InputError(
            f"{source} has {names[0]} of {size_text(train.images.shape[1:])} and {names[2]} of "
            f"{size_text(test.images.shape[1:])}; both must be of one size",
            "bring all pictures to one size and number of channels, and save both arrays again",
        )
    if train.labels.dtype != test.labels.dtype:
        raise InputError(
            f"{source} has whole numbers as targets in one of {names[1]} and {names[3]}, and real numbers in the other",
            "save both as integers (classes), or both as floats (a regression)",
        )
    class_names = () if train.labels.is_floating_point() else _class_names(source, arrays, train.labels, test.labels)
    return ImageDataset("arrays", train, test, class_names, f"arrays in {source}", digests)


def _open(root: Path) -> tuple[Mapping[str, Array], Path]:
    """The arrays by name, and the file or folder that they are from."""
    if not root.exists():
        raise InputError(f"{root} does not exist", "give an .npz file, or a folder of .npy files, as --data.root")
    if root.is_dir():
        if paths := sorted(root.glob("*.npy")):
            return {path.stem: _map(path) for path in paths}, root
        packed = sorted(root.glob("*.npz"))
        if len(packed) != 1:
            raise InputError(
                f"{root} has no .npy file and {len(packed)} .npz files; {NAME_LIST} are expected",
                "give the .npz file itself as --data.root" if packed else "save the arrays there as .npy files",
            )
        root = packed[0]
    what = str(root)
    try:
        with root.open("rb") as opened:  # NumPy would leave a damaged file open
            file = np.load(opened, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                remedy = "give an .npz file, or the folder of .npy files, as --data.root"
                raise InputError(f"{root} is not an .npz file", remedy)
            arrays = {}
            for name in file.files:
                what = f"{root}: {name}"
                arrays[name] = file[name]
            return arrays, root
    except READ_ERRORS as error:
        raise error if isinstance(error, InputError) else _unreadable(what, error) from None


def _map(path: Path) -> Array:
    """An .npy file as a private memory map."""
    try:
        return np.lib.format.open_memmap(path, mode="c")
    except READ_ERRORS as error:
        raise _unreadable(str(path), error) from None


def _unreadable(what: str, error: Exception) -> InputError:
    if any(word in str(error) for word in ("pickle", "Object arrays", "Python objects")):
        return InputError(
            f"{what} is an array of Python objects, which could run code when it is opened",
            "save pictures of one size as one uint8 array, and targets as integers or floats",
        )
    return InputError(f"{what} cannot be read: {last_line(error)}", "save it again with np.savez or np.save")


def _split(images_name: str, images: Array, targets_name: str, targets: Array) -> ImageSplit:
    """Pictures and targets, checked."""
    if images.dtype != np.uint8:
        hint = "round(255 * x)" if images.dtype.kind == "f" else "x"
        raise InputError(
            f"{images_name} holds {images.dtype}; levels from 0 to 255 as uint8 are expected",
            f"save np.{hint}.astype(np.uint8) if the levels go from 0 to {1 if hint != 'x' else 255}",
        )
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise InputError(
            f"{images_name} has the shape {size_text(images.shape) or 'of one number'}; (n, height, width) or (n, "
            "height, width, channels) is expected",
            "reshape the array, and save it again",
        )
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] not in (1, 3):
        raise InputError(
            f"{images_name} has the shape {size_text(images.shape)}, with the channels before height and width",
            "save x.transpose(0, 2, 3, 1), with the channels last",
        )
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    targets = targets[:, 0] if targets.ndim == 2 and targets.shape[1] == 1 else targets  # as keras' CIFAR-10 has them
    if targets.shape != images.shape[:1]:
        raise InputError(
            f"{targets_name} has the shape {size_text(targets.shape) or 'of one number'}; one target for each of the "
            f"{len(images):,} pictures of {images_name} is expected",
            "save one number for each picture, in the same order",
        )
    return ImageSplit(_tensor(images), _targets(targets_name, targets))


def _targets(name: str, targets: Array) -> Tensor:
    """Classes, int64 (n,), or finite real numbers, float32 (n,)."""
    if targets.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
            numbers = targets.astype(np.float32)
        wrong = np.flatnonzero(~np.isfinite(numbers))
        if len(wrong):
            raise InputError(
                f"{name} has {len(wrong):,} missing (NaN) or infinite targets, the first at position {wrong[0]}",
                "remove these examples from both arrays, pictures and targets",
            )
        return torch.from_numpy(numbers)
    if targets.dtype.kind not in "iub":
        raise InputError(
            f"{name} holds {targets.dtype}; classes as integers or numbers as floats are expected",
            "number the classes from 0: np.unique(y, return_inverse=True)[1]",
        )
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= MAX_CLASSES:
        raise InputError(
            f"{name} has whole numbers from {low} to {high}; classes go from 0 to at most {MAX_CLASSES - 1:,}",
            "number the classes from 0, or save the targets as floats and type --model.task regression",
        )
    return torch.from_numpy(targets.astype(np.int64))


def _class_names(source: Path, arrays: Mapping[str, Array], train: Tensor, test: Tensor) -> tuple[str, ...]:
    """The names that the user gave, or the classes' numbers."""
    num = int(train.max()) + 1
    if int(test.max()) >= num:
        raise InputError(
            f"{source} has class {int(test.max())} in the test set, which no training example has",
            "number the classes alike in both",
        )
    names = [str(name) for name in arrays["class_names"].ravel()] if "class_names" in arrays else []
    if names and len(names) < num:
        raise InputError(f"{source} has {len(names)} class_names for {num} classes", "give one name for each class")
    return tuple(names) or tuple(map(str, range(num)))


def _tensor(array: Array) -> Tensor:
    """The array as a tensor, without a copy where its order allows that."""
    return torch.from_numpy(np.ascontiguousarray(array))


def _digest(array: Array) -> str:
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
