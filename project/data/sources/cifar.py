"""CIFAR-10 in torchvision's layout, fetched where it is missing.

torchvision compares the MD5 of the archive and of each of its files with what was published before it reads them; no
other digests are pinned here. The SHA-256 of the resulting arrays is recorded with every run.
"""

import hashlib
import logging
import shutil
from pathlib import Path
from typing import Any

import torch

from project.data.sources.download import NO_DOWNLOAD, impatient, locked, torchvision_datasets
from project.data.sources.idx import last_line
from project.data.sources.load import ImageDataset, ImageSplit
from project.errors import InputError

log = logging.getLogger("project")

# fmt: off
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# fmt: on


def load_cifar10(root: Path, download: bool = True) -> ImageDataset:
    """Find, fetch where needed, check and open CIFAR-10: 50,000 and 10,000 pictures, uint8 (n, 32, 32, 3).

    Args:
        root: The folder in which `cifar-10-batches-py` is or will be.
        download: Whether it may be fetched.

    Raises:
        InputError: If it is not there and cannot be fetched, if its files are not what was published, or if
            torchvision cannot be imported.
    """
    root = root.expanduser()
    published = torchvision_datasets().CIFAR10
    folder = root / published.base_folder
    reason = "downloading is switched off"
    if not folder.exists() and download:
        reason = _fetch(published, root)
    if not folder.exists():
        remedy = "Connect this machine to the internet and run again" if download else NO_DOWNLOAD
        raise InputError(
            f"CIFAR-10 was not found: {folder} does not exist; {reason}.",
            f"{remedy}, or unpack {published.filename} into {root}.",
        )
    if not _is_whole(published, root):
        raise InputError(
            f"{folder} is not CIFAR-10: a file is missing, or its MD5 is not the published one.",
            f"Delete {folder} and run again to fetch it.",
        )
    train, test = (_split(published(root, train=is_train)) for is_train in (True, False))
    sha256 = {
        f"{name}-{what}": hashlib.sha256(array.numpy().reshape(-1).data).hexdigest()
        for name, split in (("train", train), ("test", test))
        for what, array in (("images", split.images), ("labels", split.labels))
    }
    return ImageDataset("cifar10", train, test, CLASS_NAMES, f"files in {folder}", sha256)


def _split(published: Any) -> ImageSplit:
    return ImageSplit(torch.from_numpy(published.data).contiguous(), torch.tensor(published.targets))


def _is_whole(published: Any, root: Path) -> bool:
    """Whether all files are there with the MD5 that torchvision knows; files that fail it are never opened."""
    from torchvision.datasets.utils import check_integrity

    meta = (published.meta["filename"], published.meta["md5"])
    files = [*published.train_list, *published.test_list, meta]
    return all(check_integrity(str(root / published.base_folder / name), md5) for name, md5 in files)


def _fetch(published: Any, root: Path) -> str:
    """Let torchvision download and unpack the archive, in a folder of its own. Returns why it failed, if it did."""
    workspace = root / ".fetch-cifar10"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with locked(root / ".fetch-cifar10.lock"):
            if (root / published.base_folder).exists():  # another process has fetched it meanwhile
                return ""
            shutil.rmtree(workspace, ignore_errors=True)  # also what a killed process left behind
            log.info("Downloading CIFAR-10 (170 MB) from %s", published.url)
            with impatient():
                published(workspace, download=True)
            (workspace / published.base_folder).replace(root / published.base_folder)
            return ""
    except Exception as error:  # whatever fails there, the reason is reported
        return f"{published.url} ({last_line(error)})"
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
