"""What a judgement is made from: everything that was measured of a training, as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from project.diagnosis.forces import Forces
from project.diagnosis.judgement.data import DataSummary
from project.diagnosis.probe import LayerProbe, Probe

History = Sequence[Mapping[str, float]]
"""One record per epoch with `train/loss`, and where measured `train/accuracy`, `validation/loss`,
`validation/accuracy`."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that was measured of a training.

    Errors are the share of wrong decisions; for regression the root mean squared error in units of the targets' sd.
    All are measured without dropout and augmentation.

    Attributes:
        settings: The run's settings by their flags' names.
        status: How the training ended, as metrics.json says.
        history: One record per epoch; what it says of training is measured under dropout and augmentation.
        num_steps: Optimizer steps that the settings ask for.
        num_train: Training examples.
        num_validation: Validation examples; 0 trains without.
        num_test: Test examples.
        steps_per_epoch: Optimizer steps in an epoch.
        num_classes: Number of classes; 0 for regression.
        first: The probe of the network before its first step; None if it was not taken.
        last: The probe of the network after its last step.
        gradient_ratios: `Probe.gradient_ratio` of every probe, in order.
        forces: What acted on the weights at the sampled steps.
        train_error: The error on training examples after the last step.
        train_loss: The loss on them.
        reference_error: What `reference.reference_error` found.
        chance_error: The error of always naming the most frequent class; for regression 1.
        chance_loss: The loss of uniform guesses, for cross-entropies; None for other losses.
        decided_classes: The share of the examples that the network puts into each class; empty for regression.
        data: What the training split looks like.
        validation_error: The error on validation of the weights of the best epoch; None before it is known.
        test_error: The same on the test set.
    """

    settings: Mapping[str, Any]
    status: str
    history: History
    num_steps: int
    num_train: int
    num_validation: int
    num_test: int
    steps_per_epoch: int
    num_classes: int
    first: Probe | None
    last: Probe
    gradient_ratios: Sequence[float | None]
    forces: Sequence[Forces]
    train_error: float
    train_loss: float
    reference_error: float
    chance_error: float
    chance_loss: float | None
    decided_classes: Sequence[float] = field(default_factory=list)
    data: DataSummary
    validation_error: float | None = None
    test_error: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, from which `from_dict` makes the same again."""
        return asdict(self)

    @staticmethod
    def from_dict(state: Mapping[str, Any]) -> "Evidence":
        """The reverse of `to_dict`."""
        return Evidence(
            **{
                **state,
                "first": probe_from(state["first"]) if state["first"] else None,
                "last": probe_from(state["last"]),
                "forces": [Forces(**forces) for forces in state["forces"]],
                "data": DataSummary(**state["data"]),
            }
        )


def probe_from(state: Mapping[str, Any]) -> Probe:
    """A probe from what `dataclasses.asdict` made of it."""
    layers = {"hidden": [LayerProbe(**layer) for layer in state["hidden"]], "output": LayerProbe(**state["output"])}
    return Probe(**{**state, **layers})
