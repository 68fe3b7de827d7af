"""The settings of the data: what they are, how they are split, and what a batch of them is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypedDict

from project.data.sources.table import SOURCES
from project.errors import MAX_SEED, InputError, check_in_range, check_text
from project.settings import check_choices
from project.task import TaskName

NormalizationName = Literal["none", "unit", "symmetric", "standardize", "feature_standardize"]
AugmentationName = Literal["shift", "affine", "erase", "mixup", "cutmix"]
TargetName = Literal["label", "rotation"]
SplitName = Literal["train", "validation", "test"]

MAX_SIZE = 10_000
"""The longest side, in pixels, to which pictures can be scaled."""


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Which data a run uses, and how.

    Args:
        dataset: The data set; your own are idx (four IDX files), folder (one subfolder of pictures per class, in train/
            and test/ or together) and arrays (an .npz file, or .npy files), in the folder `root`.
        root: Folder of the data, or the .npz file; missing data are fetched into it.
        download: Whether missing data may be fetched, and decoded pictures be kept beside the files.
        size: Side in pixels to which the pictures of dataset folder are scaled.
        normalization: none keeps gray levels 0–255; unit maps them to [0, 1], symmetric to [−1, 1], standardize to mean
            0 and sd 1, feature_standardize to the same for each pixel. It is fitted on the training split alone.
        augmentation: Random changes to the training pictures, one or a list.
        num_train: Number of training examples, stratified by class; null uses all that validation leaves.
        num_validation: Number of examples that are cut from the training set for validation; auto is a tenth, at most
            5,000; 0 trains without.
        label_noise: Share of the training split's labels that are drawn anew, evenly from all classes, so that a drawn
            label is right by chance once in so many classes; split_seed decides which. Validation and test keep theirs.
        split_seed: Seed that decides which examples are used for validation, and for testing where a pool has no test
            set of its own; the training seed is another one.
        batch_size: Examples in one optimizer step, over all devices and accumulated parts.
        classes: The classes to use, by index; the binary task needs two.
        target: What a regression learns: label, the class index as a number, or rotation, the angle in degrees (up to
            ±45) by which each picture is turned.

    Raises:
        InputError: If a name is unknown, a number is out of range, or two settings contradict each other.
    """

    CHOICES: ClassVar[Mapping[str, Mapping[str, Any]]] = {"dataset": SOURCES}
    """The table whose rows are the choices of `dataset`."""

    dataset: str = "fashion_mnist"
    root: str = "data"
    download: bool = True
    size: int = 28
    normalization: NormalizationName = "standardize"
    augmentation: AugmentationName | list[AugmentationName] | None = None
    num_train: int | None = None
    num_validation: int | Literal["auto"] = "auto"
    label_noise: float = 0.0
    split_seed: int = 0
    batch_size: int = 256
    classes: list[int] | None = None
    target: TargetName = "label"

    def __post_init__(self) -> None:
        check_choices("data", self)
        check_in_range("data.batch_size", self.batch_size, 1, "128")
        check_text("data.root", self.root, "data")
        check_in_range("data.size", self.size, 1, "28", MAX_SIZE)
        if self.num_validation != "auto":
            check_in_range("data.num_validation", self.num_validation, 0, "5000")
        if not 0 <= self.label_noise <= 1:
            raise InputError(
                f"data.label_noise is {self.label_noise:g}, but must be a share from 0 to 1",
                "type for example --data.label_noise 0.2",
            )
        check_in_range("data.split_seed", self.split_seed, 0, "1", MAX_SEED)
        check_in_range("data.num_train", self.num_train, 1, "10000")
        if self.classes is not None and not 2 <= len(set(self.classes)) == len(self.classes):
            raise InputError(
                f"data.classes is {self.classes}, but must list two or more classes, each once",
                'type for example --data.classes "[3, 8]"',
            )
        names = self.augmentations
        if len(set(names)) != len(names):
            raise InputError(f"data.augmentation has a name twice: {', '.join(names)}", "name each at most once")
        if {"mixup", "cutmix"} <= set(names):
            both = "data.augmentation has both mixup and cutmix, but a batch's targets can be mixed only once"
            raise InputError(both, "choose one of the two")
        if self.target == "rotation" and "affine" in names:
            raise InputError(
                "augmentation affine turns pictures, but with data.target rotation the network learns that angle",
                "choose --data.augmentation shift or erase",
            )

    @property
    def augmentations(self) -> Sequence[AugmentationName]:
        """The augmentations as a list, which is empty for none."""
        return [self.augmentation] if isinstance(self.augmentation, str) else self.augmentation or []

    @property
    def is_validated(self) -> bool:
        """Whether a part of the training set is kept for validation."""
        return self.num_validation != 0

    @property
    def source_key(self) -> tuple[Any, ...]:
        """What decides which data are loaded: settings with the same key load the same."""
        return tuple(getattr(self, name) for name in SOURCES[self.dataset].decided_by)

    def check_task(self, task: TaskName) -> None:
        """Raise an `InputError` if the settings do not suit the task.

        binary needs two classes, a task with classes needs classes as targets, and label noise needs classes too.
        """
        if task == "binary" and (self.classes is None or len(set(self.classes)) != 2):
            raise InputError(
                f"model.task is binary, which needs two different classes, but data.classes is {self.classes}",
                'type for example --data.classes "[3, 8]"',
            )
        if task != "regression" and self.target != "label":
            raise InputError(
                f"data.target {self.target} is a number, but model.task is {task}", "type --model.task regression"
            )
        if task == "regression" and self.label_noise:
            raise InputError(
                f"data.label_noise is {self.label_noise:g}, but a regression has no classes to draw labels from",
                "type --data.label_noise 0, or leave --model.task out",
            )


class DataKeywords(TypedDict, total=False):
    """The fields of `DataSettings` as keyword arguments, for editors and type checkers; a test compares the two."""

    dataset: str
    root: str
    download: bool
    size: int
    normalization: NormalizationName
    augmentation: AugmentationName | list[AugmentationName] | None
    num_train: int | None
    num_validation: int | Literal["auto"]
    label_noise: float
    split_seed: int
    batch_size: int
    classes: list[int] | None
    target: TargetName
