"""Splits, shards and the resident batch loader: from a data set to batches on the device."""

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from project.data.augmentation import Batch, build_augmentation, rotate
from project.data.loaders import EvaluationLoader, TrainLoader, mix_seed
from project.data.normalization import Normalization, fit_normalization
from project.data.settings import DataKeywords, DataSettings, SplitName
from project.data.sources.load import ImageDataset, ImageSplit
from project.data.sources.pool import check_targets, one_class
from project.data.sources.table import SOURCES
from project.data.splits import MAX_AUTO_VALIDATION, fitting_sizes, redraw_labels, stratified_split
from project.errors import InputError
from project.settings import with_keywords_of
from project.task import DataSpec, TaskName

if TYPE_CHECKING:
    from typing_extensions import Unpack

MAX_TARGET_DEGREES = 45.0
"""Target `rotation`: each picture is turned by an angle drawn evenly from ±45°."""


@with_keywords_of(DataSettings)
class ImageDataModule(LightningDataModule):
    """Splits that never mix, and batches that are always the same.

    The official test set is used for nothing else. Validation is cut from the official training set, stratified by
    label; `split_seed` alone decides how.

    Args:
        settings: They say which data are used, and how these are split, normalized, augmented and batched.
        keywords: Fields of `DataSettings`, in place of `settings`.
        task: What the targets are: multiclass, binary or regression.
        seed: It decides order, dropout and augmentation.

    Raises:
        InputError: If the settings do not suit the task.
        TypeError: If both settings and keywords are given, or a keyword is no setting.
    """

    def __init__(
        self,
        settings: DataSettings | None = None,
        *,
        task: TaskName = "multiclass",
        seed: int = 0,
        **keywords: "Unpack[DataKeywords]",
    ) -> None:
        super().__init__()
        if settings is not None and keywords:
            raise TypeError("give either settings or keywords")
        self.settings, self.task, self.seed = settings or DataSettings(**keywords), task, seed
        self.settings.check_task(task)
        names = self.settings.augmentations
        self.augment = build_augmentation(names) if names else None
        # every process loads what all have on disk, but Lightning would run its hook in one process only
        self.prepare_data_per_node = False
        self.scored_split: SplitName = "test"
        """The split that `test_dataloader` gives: another one only while it is evaluated by itself."""
        self.resident: dict[tuple[str, str], Tensor] = {}
        """What is on a device already: images or targets, by the official set's name and by their own and the device's.
        """

    @cached_property
    def data(self) -> ImageDataset:
        """The whole data set, loaded and verified once."""
        data: ImageDataset = SOURCES[self.settings.dataset].load(self.settings)
        check_targets(data, self.task)
        return data

    @property
    def num_validation(self) -> int:
        """Validation examples; `auto` is a tenth of the training set, at least 1 and at most MAX_AUTO_VALIDATION."""
        asked = self.settings.num_validation
        if asked != "auto":
            return asked
        num_available = len(self._of_chosen_classes(self.data.train.labels.numpy()))
        return min(max(num_available // 10, 1), MAX_AUTO_VALIDATION)

    @cached_property
    def splits(self) -> dict[SplitName, Tensor]:
        """Indices into the official training set (train, validation) or test set (test), int64, ascending."""
        settings, labels = self.settings, self.data.train.labels.numpy()
        available, num_validation = self._of_chosen_classes(labels), self.num_validation
        if num_validation + (settings.num_train or 1) > len(available):
            asked = f"data.num_validation {num_validation} and data.num_train {settings.num_train or 'at least 1'}"
            there = f"the {len(available)} training examples that there are"
            remedy = fitting_sizes(num_validation, settings.num_train, len(available))
            raise InputError(f"{asked} need more than {there}", remedy)
        if self.data.train.labels.is_floating_point():
            labels = np.zeros_like(labels)  # numbers have no classes to stratify by
        generator = np.random.Generator(np.random.PCG64(settings.split_seed))
        validation, train = stratified_split(labels, available, num_validation, generator)
        if settings.num_train is not None:
            train, _ = stratified_split(labels, train, settings.num_train, generator)
        test = self._of_chosen_classes(self.data.test.labels.numpy())
        if not len(test):
            raise InputError("the test set has no example of the chosen classes", "choose other --data.classes")
        found: dict[SplitName, np.ndarray[Any, Any]] = {"train": train, "validation": validation, "test": test}
        return {name: torch.from_numpy(indices) for name, indices in found.items()}

    def _of_chosen_classes(self, labels: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        classes, known = self.settings.classes, len(self.data.class_names)
        if classes is None:
            return np.arange(len(labels))
        if not known:
            raise InputError(
                f"data.classes is {classes}, but the targets are real numbers and have no classes",
                "leave --data.classes out",
            )
        if not all(0 <= c < known for c in classes):
            raise InputError(
                f"data.classes is {classes}, but the classes of {self.settings.dataset} are 0 to {known - 1}",
                f'type for example --data.classes "[0, {known - 1}]"',
            )
        return np.flatnonzero(np.isin(labels, classes))

    @property
    def split_sha256(self) -> dict[str, str]:
        """SHA-256 of each split's indices (int64, little-endian)."""
        packed = {name: indices.numpy().astype("<i8").tobytes() for name, indices in self.splits.items()}
        return {name: hashlib.sha256(content).hexdigest() for name, content in packed.items()}

    @cached_property
    def normalization(self) -> Normalization:
        """Fitted on the training split alone."""
        return fit_normalization(self.settings.normalization, self.data.train.images, self.splits["train"])

    @cached_property
    def spec(self) -> DataSpec:
        """What the model must know."""
        height, width, *several = self.data.train.images.shape[1:]
        channels = several[0] if several else 1
        train = self.splits["train"]  # this checks the classes
        if self.settings.target == "label" and len(np.unique(self.data.train.labels.numpy()[train])) < 2:
            raise one_class("the training examples")
        if self.task != "regression":
            names = self.data.class_names
            if self.settings.classes is not None:
                names = tuple(names[c] for c in self.settings.classes)
            num_outputs = 1 if self.task == "binary" else len(names)
            return DataSpec(height, width, num_outputs, self.task, names, channels=channels)
        if self.settings.target == "rotation":
            mean, sd = 0.0, MAX_TARGET_DEGREES / 3**0.5  # of the even distribution
        else:
            targets = self.targets("train")[train].double()
            mean, sd = targets.mean().item(), targets.std(correction=0).item()
        return DataSpec(height, width, 1, self.task, (), mean, sd, channels)

    def source(self, split: SplitName) -> ImageSplit:
        """The official set that a split is cut from."""
        return self.data.test if split == "test" else self.data.train

    def targets(self, split: SplitName) -> Tensor:
        """Targets of the whole official set behind a split, (n,): class indices int64, or float32 for regression.

        Where only some classes are used, theirs are numbered in the order of `classes` and all others are −1. The
        training split's have the label noise that the settings ask for; those of validation and test have none.
        """
        labels, classes = self.source(split).labels, self.settings.classes
        if self.task == "regression":
            return labels.float()
        if classes is not None:
            renumber = torch.full((len(self.data.class_names),), -1)
            renumber[torch.tensor(classes)] = torch.arange(len(classes))
            labels = renumber[labels]
        if split == "test" or not self.settings.label_noise:
            return labels
        num_classes = len(self.data.class_names if classes is None else classes)
        return redraw_labels(
            labels, self.splits["train"], self.settings.label_noise, num_classes, self.settings.split_seed
        )

    def prepare_data(self) -> None:
        """Fetch the data before any process needs them."""
        _ = self.data

    @property
    def num_steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        return len(self.splits["train"]) // self.settings.batch_size

    def check_batches(self, world_size: int = 1, accumulate: int = 1, batch_norm: bool = False) -> None:
        """Raise an `InputError` if a batch cannot be full or evenly shared, or batch norm would see one example."""
        num_train, batch_size, parts = len(self.splits["train"]), self.settings.batch_size, world_size * accumulate
        if batch_size > num_train:
            raise InputError(
                f"data.batch_size is {batch_size}, but there are only {num_train} training examples",
                f"type --data.batch_size {num_train} or less",
            )
        if batch_size % parts:
            raise InputError(
                f"data.batch_size {batch_size} cannot be shared evenly by {world_size} processes with "
                f"trainer.accumulate_grad_batches {accumulate}",
                f"type --data.batch_size {max(batch_size // parts, 1) * parts}",
            )
        if batch_norm and batch_size // parts == 1:
            raise InputError(
                "model.norm batch needs at least 2 examples in each part of a batch, but there is 1",
                f"type --data.batch_size {2 * parts} or more, or --model.norm layer",
            )

    def train_dataloader(self) -> TrainLoader:
        rank, world_size, device = self._place()
        accumulate = self.trainer.accumulate_grad_batches if self.trainer else 1
        self.check_batches(world_size, accumulate)
        transform = self._rotate_at_random if self.settings.target == "rotation" else self.augment
        images, targets = self._on(device, "train", "images"), self._on(device, "train", "targets")
        order = (self.splits["train"], self.settings.batch_size, self.seed)
        return TrainLoader(images, targets, *order, rank, world_size, accumulate, transform)

    def _rotate_at_random(self, batch: Batch) -> Batch:
        degrees = (torch.rand(len(batch.targets), device=batch.targets.device) * 2 - 1) * MAX_TARGET_DEGREES
        turned = Batch(rotate(batch.images, degrees), degrees)
        return self.augment(turned) if self.augment else turned

    def evaluation_loader(self, split: SplitName) -> EvaluationLoader:
        """Every example of a split once, shared among the processes there are."""
        rank, world_size, device = self._place()
        images, indices = self._on(device, split, "images"), self.splits[split]
        if self.settings.target != "rotation":
            targets = self._on(device, split, "targets")[indices.to(device)]
            return EvaluationLoader(images, targets, indices, rank, world_size)
        # angles that depend on the split alone: the same for every model and every run
        seed = mix_seed(self.settings.split_seed, ("train", "validation", "test").index(split))
        draws = torch.rand(len(indices), generator=torch.Generator().manual_seed(seed))
        degrees = (draws * 2 - 1) * MAX_TARGET_DEGREES
        return EvaluationLoader(images, degrees.to(device), indices, rank, world_size, degrees)

    def val_dataloader(self) -> EvaluationLoader | list[Any]:
        return self.evaluation_loader("validation") if self.settings.is_validated else []

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
        if key not in self.resident:
            tensor = self.source(split).images if what == "images" else self.targets(split)
            self.resident[key] = tensor.to(device)
        return self.resident[key]
