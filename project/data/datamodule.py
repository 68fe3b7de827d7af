"""Splits, shards and the resident batch loader: from a data set to batches on the device."""

import copy
import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from project.data.augmentation import AugmentationName, Batch, build_augmentation, rotate
from project.data.loaders import EvaluationLoader, TrainLoader, mix_seed
from project.data.normalization import Normalization, NormalizationName, fit_normalization
from project.data.sources.known_sets import DatasetName
from project.data.sources.load import ImageDataset, ImageSplit, load_dataset
from project.data.splits import SplitName, stratified_split
from project.errors import InputError
from project.task import DataSpec, TaskName

TargetName = Literal["label", "rotation"]
MAX_TARGET_DEGREES = 45.0
"""Target `rotation`: each picture is turned by an angle drawn evenly from ±45°."""


class ImageDataModule(LightningDataModule):
    """MNIST, FashionMNIST or a user's IDX files as splits that never mix and batches that are always the same.

    The official test set is only ever the test set. Validation is cut from the official training set, stratified by
    label, by `split_seed` alone.

    Args:
        dataset: Which data: mnist, fashion_mnist, or idx for your own four IDX files directly under `root`.
        root: Folder that holds the data, or gets it.
        download: Whether missing data may be fetched.
        normalization: none keeps gray levels 0–255; unit [0, 1]; symmetric [−1, 1]; standardize mean 0 and sd 1;
            feature_standardize the same for each pixel. Fitted on the training split alone, applied to all.
        augmentation: One or a list of shift, affine, erase, mixup, cutmix, on training batches only.
        num_train: Training examples to use, stratified; all that validation leaves if not given.
        num_validation: Examples cut from the training set for validation; 0 trains without.
        split_seed: Decides which examples are validation; apart from the training seed.
        batch_size: Examples in one optimizer step, over all devices and accumulated parts.
        classes: Only these classes, by index; two of them for the binary task.
        target: Regression only: label (the class index as a number), or rotation (the angle in degrees, within ±45,
            by which each picture was turned).
        task: multiclass, binary or regression; set by model.task.
        seed: Decides order, dropout and augmentation; set by seed_everything.
    """

    def __init__(
        self,
        dataset: DatasetName = "fashion_mnist",
        root: str = "data",
        download: bool = True,
        normalization: NormalizationName = "standardize",
        augmentation: AugmentationName | list[AugmentationName] | None = None,
        num_train: int | None = None,
        num_validation: int = 5000,
        split_seed: int = 0,
        batch_size: int = 256,
        classes: list[int] | None = None,
        target: TargetName = "label",
        task: TaskName = "multiclass",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.dataset_name, self.root, self.download = dataset, Path(root), download
        self.normalization_name = normalization
        names: Sequence[AugmentationName] = [augmentation] if isinstance(augmentation, str) else augmentation or []
        self.augment = build_augmentation(names) if names else None
        self.num_train, self.num_validation, self.split_seed = num_train, num_validation, split_seed
        self.batch_size, self.classes, self.target, self.task, self.seed = batch_size, classes, target, task, seed
        # every rank loads what all have on disk, and Lightning's own hook would only run on one rank
        self.prepare_data_per_node = False
        self.scored_split: SplitName = "test"
        """The split that `test_dataloader` gives: another one only while it is evaluated by itself."""
        self._check_settings(names)
        self._resident: dict[tuple[str, str], Tensor] = {}

    def _check_settings(self, augmentation: Sequence[AugmentationName]) -> None:
        if self.batch_size < 1:
            raise InputError(
                f"data.batch_size is {self.batch_size}, but must be at least 1",
                "type for example --data.batch_size 128",
            )
        if self.num_validation < 0:
            raise InputError(
                f"data.num_validation is {self.num_validation}, but must be 0 (no validation) or more",
                "type for example --data.num_validation 5000",
            )
        if self.split_seed < 0:
            raise InputError(
                f"data.split_seed is {self.split_seed}, but must be 0 or more", "type for example --data.split_seed 1"
            )
        if self.num_train is not None and self.num_train < 1:
            raise InputError(
                f"data.num_train is {self.num_train}, but must be at least 1", "type for example --data.num_train 10000"
            )
        if self.task == "binary" and (self.classes is None or len(set(self.classes)) != 2):
            raise InputError(
                f"model.task is binary, which needs two different classes, but data.classes is {self.classes}",
                'type for example --data.classes "[3, 8]"',
            )
        if self.classes is not None and not 2 <= len(set(self.classes)) == len(self.classes):
            raise InputError(
                f"data.classes is {self.classes}, but must list two or more classes, each once",
                'type for example --data.classes "[3, 8]"',
            )
        if self.task != "regression" and self.target != "label":
            raise InputError(
                f"data.target {self.target} is a number, but model.task is {self.task}", "type --model.task regression"
            )
        if self.target == "rotation" and "affine" in augmentation:
            raise InputError(
                "augmentation affine turns pictures, but with data.target rotation the angle is what is to be learned",
                "choose --data.augmentation shift or erase",
            )

    @cached_property
    def data(self) -> ImageDataset:
        """The whole data set, loaded and verified once."""
        return load_dataset(self.dataset_name, self.root, self.download)

    @cached_property
    def splits(self) -> dict[SplitName, Tensor]:
        """Indices into the official training set (train, validation) or test set (test), int64, ascending."""
        labels = self.data.train.labels.numpy()
        available = self._of_chosen_classes(labels)
        if self.num_validation + (self.num_train or 1) > len(available):
            raise InputError(
                f"data.num_validation {self.num_validation} and data.num_train {self.num_train or 'at least 1'} need "
                f"more than the {len(available)} training examples that there are",
                "make one of the two smaller",
            )
        generator = np.random.Generator(np.random.PCG64(self.split_seed))
        validation, rest = stratified_split(labels, available, self.num_validation, generator)
        train = rest if self.num_train is None else stratified_split(labels, rest, self.num_train, generator)[0]
        test = self._of_chosen_classes(self.data.test.labels.numpy())
        if not len(test):
            raise InputError("the test set has no example of the chosen classes", "choose other --data.classes")
        splits: dict[SplitName, Tensor] = {
            "train": torch.from_numpy(train),
            "validation": torch.from_numpy(validation),
            "test": torch.from_numpy(test),
        }
        return splits

    def _of_chosen_classes(self, labels: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        if self.classes is None:
            return np.arange(len(labels))
        known = len(self.data.class_names)
        if not all(0 <= c < known for c in self.classes):
            raise InputError(
                f"data.classes is {self.classes}, but the classes of {self.dataset_name} are 0 to {known - 1}",
                f'type for example --data.classes "[0, {known - 1}]"',
            )
        return np.flatnonzero(np.isin(labels, self.classes))

    @property
    def split_sha256(self) -> dict[str, str]:
        """SHA-256 of each split's indices (int64, little-endian)."""
        return {
            name: hashlib.sha256(indices.numpy().astype("<i8").tobytes()).hexdigest()
            for name, indices in self.splits.items()
        }

    @cached_property
    def normalization(self) -> Normalization:
        """Fitted on the training split alone."""
        return fit_normalization(self.normalization_name, self.data.train.images, self.splits["train"])

    @cached_property
    def spec(self) -> DataSpec:
        """What the model must know."""
        height, width = self.data.train.images.shape[1:]
        if self.task == "regression":
            if self.target == "rotation":
                mean, sd = 0.0, MAX_TARGET_DEGREES / 3**0.5  # of the even distribution
            else:
                train_targets = self.targets("train")[self.splits["train"]].double()
                mean, sd = train_targets.mean().item(), train_targets.std(correction=0).item() or 1.0
            return DataSpec(height, width, 1, self.task, (), mean, sd)
        _ = self.splits  # checks the classes
        names = self.data.class_names
        if self.classes is not None:
            names = tuple(names[c] for c in self.classes)
        return DataSpec(height, width, 1 if self.task == "binary" else len(names), self.task, names)

    def share(self, other: "ImageDataModule") -> None:
        """Take over what another one has loaded, split, fitted and moved to the device, as far as it is the same."""
        if (self.dataset_name, self.root) != (other.dataset_name, other.root):
            return
        self.data = other.data
        if (self.classes, self.task) == (other.classes, other.task):
            self._resident = other._resident

        def cut(module: "ImageDataModule") -> tuple[object, ...]:
            return module.num_train, module.num_validation, module.split_seed, module.classes

        if cut(self) == cut(other):
            self.splits = other.splits
            if self.normalization_name == other.normalization_name:
                # it becomes a part of another network, and Lightning wonders at parts that are not in training mode
                self.normalization = copy.deepcopy(other.normalization).train()

    def source(self, split: SplitName) -> ImageSplit:
        """The official set that a split is cut from."""
        return self.data.test if split == "test" else self.data.train

    def targets(self, split: SplitName) -> Tensor:
        """Targets of the whole official set behind a split, (n,): class indices int64, or float32 for regression.

        Where only some classes are used, theirs are numbered in the order of `classes` and all others are −1.
        """
        labels = self.source(split).labels
        if self.task == "regression":
            return labels.float()
        if self.classes is None:
            return labels
        renumber = torch.full((len(self.data.class_names),), -1)
        renumber[torch.tensor(self.classes)] = torch.arange(len(self.classes))
        return renumber[labels]

    def prepare_data(self) -> None:
        """Fetch the data before any process needs them."""
        _ = self.data

    @property
    def num_steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        return len(self.splits["train"]) // self.batch_size

    def check_batches(self, world_size: int = 1, accumulate: int = 1, batch_norm: bool = False) -> None:
        """Check that every batch can be full and evenly shared.

        Raises:
            InputError: If there are fewer examples than one batch takes, if the batch cannot be divided by ranks and
                accumulated parts, or if batch norm would see a single example.
        """
        num_train = len(self.splits["train"])
        if self.batch_size > num_train:
            raise InputError(
                f"data.batch_size is {self.batch_size}, but there are only {num_train} training examples",
                f"type --data.batch_size {num_train} or less",
            )
        parts = world_size * accumulate
        if self.batch_size % parts:
            raise InputError(
                f"data.batch_size {self.batch_size} cannot be shared evenly by {world_size} processes with "
                f"trainer.accumulate_grad_batches {accumulate}",
                f"type --data.batch_size {max(self.batch_size // parts, 1) * parts}",
            )
        if batch_norm and self.batch_size // parts == 1:
            raise InputError(
                "model.norm batch needs at least 2 examples in each part of a batch, but there is 1",
                f"type --data.batch_size {2 * parts} or more, or --model.norm layer",
            )

    def train_dataloader(self) -> TrainLoader:
        rank, world_size, device = self._place()
        accumulate = self.trainer.accumulate_grad_batches if self.trainer else 1
        self.check_batches(world_size, accumulate)
        transform = self._rotate_at_random if self.target == "rotation" else self.augment
        return TrainLoader(
            self._on(device, "train", "images"),
            self._on(device, "train", "targets"),
            self.splits["train"],
            self.batch_size,
            self.seed,
            rank,
            world_size,
            accumulate,
            transform,
        )

    def _rotate_at_random(self, batch: Batch) -> Batch:
        degrees = (torch.rand(len(batch.targets), device=batch.targets.device) * 2 - 1) * MAX_TARGET_DEGREES
        turned = Batch(rotate(batch.images, degrees), degrees)
        return self.augment(turned) if self.augment else turned

    def evaluation_loader(self, split: SplitName) -> EvaluationLoader:
        """Every example of a split once, shared among the processes there are."""
        rank, world_size, device = self._place()
        indices = self.splits[split]
        if self.target == "rotation":
            # angles that depend on the split alone: the same for every model and every run
            generator = torch.Generator().manual_seed(
                mix_seed(self.split_seed, ("train", "validation", "test").index(split))
            )
            degrees = (torch.rand(len(indices), generator=generator) * 2 - 1) * MAX_TARGET_DEGREES
            return EvaluationLoader(
                self._on(device, split, "images"), degrees.to(device), indices, rank, world_size, degrees
            )
        targets = self._on(device, split, "targets")[indices.to(device)]
        return EvaluationLoader(self._on(device, split, "images"), targets, indices, rank, world_size)

    def val_dataloader(self) -> EvaluationLoader | list[Any]:
        return self.evaluation_loader("validation") if self.num_validation else []

    def test_dataloader(self) -> EvaluationLoader:
        return self.evaluation_loader(self.scored_split)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Batches are made on the device: nothing is left to move."""
        return batch

    def _place(self) -> tuple[int, int, torch.device]:
        if self.trainer is None:
            return 0, 1, torch.device("cpu")
        return self.trainer.global_rank, self.trainer.world_size, self.trainer.strategy.root_device

    def _on(self, device: torch.device, split: SplitName, what: Literal["images", "targets"]) -> Tensor:
        """Images or targets of the official set behind a split, moved to the device once and kept there."""
        official = "test" if split == "test" else "train"
        key = (official, f"{what} {device}")
        if key not in self._resident:
            tensor = self.source(split).images if what == "images" else self.targets(split)
            self._resident[key] = tensor.to(device)
        return self._resident[key]
