"""What a network's targets mean: the task, what decides it, and what a model must know of its data."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

TaskName = Literal["multiclass", "binary", "regression"]
Number = TypeVar("Number", float, "Tensor")


@dataclass(frozen=True)
class DataSpec:
    """What a model must know of its data; with the model's settings it rebuilds the network.

    Args:
        height: Of one picture, in pixels.
        width: Of one picture, in pixels.
        num_outputs: One per class; 1 for binary classification and regression.
        task: What the targets are.
        class_names: The classes' names in the order of their indices; empty for regression.
        target_mean: Subtracted from a regression target before the loss.
        target_sd: A regression target is divided by it before the loss, in units of the target.
        channels: Of one picture: 1 for gray, 3 for red, green and blue, or any other number.
    """

    height: int
    width: int
    num_outputs: int
    task: TaskName
    class_names: tuple[str, ...]
    target_mean: float = 0.0
    target_sd: float = 1.0
    channels: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one picture: (height, width) for one channel, (height, width, channels) for more."""
        return (self.height, self.width) if self.channels == 1 else (self.height, self.width, self.channels)

    @property
    def num_features(self) -> int:
        """The size of one flattened picture, in which the channel changes fastest."""
        return self.height * self.width * self.channels

    def in_target_unit(self, outputs: Number) -> Number:
        """What a regression's outputs mean, in the target's unit."""
        return outputs * self.target_sd + self.target_mean

    def standardized(self, targets: "Tensor") -> "Tensor":
        """Regression targets as the loss expects them, mean 0 and sd 1 over the training split."""
        return (targets - self.target_mean) / self.target_sd


def decide(logits: "Tensor", task: TaskName) -> "Tensor":
    """The decision: the largest logit's class, or the sign's for one output, (batch,); for regression the output."""
    if task == "multiclass":
        return logits.argmax(1)
    return (logits[:, 0] > 0).long() if task == "binary" else logits[:, 0]


def probabilities(logits: "Tensor", task: TaskName) -> "Tensor":
    """Class probabilities, (n, classes), by softmax; of class 0 and 1 by the logistic function for one output."""
    if task == "binary":
        from torch import stack  # imported late: the command line reads the tasks' names before torch is loaded

        positive = logits[:, 0].sigmoid()
        return stack((1 - positive, positive), dim=1)
    return logits.softmax(1)


def score_name(task: TaskName) -> str:
    """What `score` is called."""
    return "rmse" if task == "regression" else "accuracy"


def target_name(target: "Tensor", class_names: tuple[str, ...]) -> str:
    """A class's name; for regression the number."""
    return class_names[int(target)] if class_names else f"{float(target):.1f}"
