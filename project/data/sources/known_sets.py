"""MNIST and the sets that have its format: their files, checksums and class names."""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from project.errors import InputError

FILES = (
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
)
"""Image and label file of the training split, then of the test split; ``.gz`` may follow each name."""
STEMS = tuple(stem for pair in FILES for stem in pair)
FILE_LIST = f"{', '.join(STEMS)} (plain or .gz)"


@dataclass(frozen=True)
class KnownSet:
    """A published data set.

    Attributes:
        folder: The name of its folder under ``root``, as in torchvision, and of torchvision's class.
        class_names: The classes' names in the order of their labels.
        shapes: (n, height, width) of the training and of the test images.
        sha256: The digest of each uncompressed file, with its header. A file without one is checked by torchvision's
            MD5 of what it downloads, and in any case by its header, its length and its labels.
        files: The names of image and label file of the training split, then of the test split.
        arguments: What torchvision's class must be given besides the folder.
        transposed: Whether the files have rows and columns exchanged.
    """

    folder: str
    class_names: tuple[str, ...]
    shapes: tuple[tuple[int, int, int], tuple[int, int, int]]
    sha256: Mapping[str, str]
    files: tuple[tuple[str, str], tuple[str, str]] = FILES
    arguments: Mapping[str, str] = field(default_factory=dict)
    transposed: bool = False

    @property
    def stems(self) -> tuple[str, ...]:
        """The four files' names, in the order of `files`."""
        return tuple(stem for pair in self.files for stem in pair)


# fmt: off
_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
# fmt: on
_BALANCED = (*string.digits, *string.ascii_uppercase, *"abdefghnqrt")
"""EMNIST's balanced split: the letters whose two cases look alike are one class, under the upper case."""
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
        class_names=_FASHION,
        shapes=((60_000, 28, 28), (10_000, 28, 28)),
        sha256={
            "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
    ),
    "kmnist": KnownSet(
        folder="KMNIST",
        class_names=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        shapes=((60_000, 28, 28), (10_000, 28, 28)),
        sha256={},
    ),
    "emnist": KnownSet(
        folder="EMNIST",
        class_names=_BALANCED,
        shapes=((112_800, 28, 28), (18_800, 28, 28)),
        sha256={},
        files=(
            ("emnist-balanced-train-images-idx3-ubyte", "emnist-balanced-train-labels-idx1-ubyte"),
            ("emnist-balanced-test-images-idx3-ubyte", "emnist-balanced-test-labels-idx1-ubyte"),
        ),
        arguments={"split": "balanced"},
        transposed=True,
    ),
}


def find_file(folder: Path, stem: str) -> Path | None:
    """The plain file, else the gzipped one, else None."""
    for path in (folder / stem, folder / f"{stem}.gz"):
        try:
            if path.is_file():
                return path
        except PermissionError as error:
            raise InputError(f"{folder} may not be read.", f"Give yourself access to {folder}.") from error
    return None


def what_is_missing(folder: Path, stems: Sequence[str] = STEMS) -> str:
    """What a folder lacks of the four files, in words; empty if it has them all."""
    missing = [stem for stem in stems if find_file(folder, stem) is None]
    if not folder.is_dir():
        return f"{folder} is not a folder" if folder.exists() else f"{folder} does not exist"
    return f"{folder} lacks {', '.join(missing)}" if missing else ""
