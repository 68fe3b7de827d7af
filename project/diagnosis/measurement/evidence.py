"""What a judgement is made from: everything that was measured of a training, as plain data."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from statistics import fmean, median
from typing import Any

from project.diagnosis.judgement.data import DataSummary
from project.diagnosis.measurement.forces import Forces
from project.diagnosis.measurement.probe import LayerProbe, Probe
from project.network.norms import is_normed
from project.network.optimization.optimizers import OPTIMIZERS, Optimizer, suited_learning_rate
from project.network.optimization.schedules import learning_rate_factor

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
        forces: What acted on the weights at the sampled steps.
        train_error: The error on training examples after the last step.
        reference_error: What `reference.reference_error` found.
        chance_error: The error of always naming the most frequent class; for regression 1.
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
    forces: Sequence[Forces]
    train_error: float
    reference_error: float
    chance_error: float
    decided_classes: Sequence[float] = field(default_factory=list)
    data: DataSummary
    validation_error: float | None = None
    test_error: float | None = None

    @property
    def error(self) -> float:
        """The error of the weights of the best epoch on validation, or on the test set where there is no validation.

        Before they are scored, it is the best epoch's so far, or that on the training examples.
        """
        scored = self.validation_error if self.num_validation else self.test_error
        known = [1 - record["validation/accuracy"] for record in self.history if "validation/accuracy" in record]
        return scored if scored is not None else min(known, default=self.train_error)

    @property
    def row(self) -> Optimizer:
        """The optimizer's row."""
        return OPTIMIZERS[self.settings["model.optimizer"]]

    @property
    def suited_rate(self) -> float:
        """The learning rate that suits the optimizer, the loss and this network."""
        s = self.settings
        normed = is_normed(s["model.norm"], s["model.depth"])
        return suited_learning_rate(s["model.optimizer"], s["model.loss"], s["model.task"], normed)

    @property
    def steps_of_an_epoch(self) -> int:
        """Optimizer steps that an epoch really had, the Trainer's limits included."""
        return round(self.history[-1]["steps"] / len(self.history)) if self.history else 0

    @property
    def learning_rate(self) -> float:
        """The learning rate at the height of the schedule, as it really was: a callback may have changed it."""
        rate, s = float(self.settings["model.learning_rate"]), self.settings
        warmup = float(s.get("model.warmup_fraction") or 0)
        shares = []
        for forces in self.forces:
            place = (forces.step, max(self.num_steps, 1), max(self.steps_per_epoch, 1), warmup)
            if (expected := rate * learning_rate_factor(s.get("model.schedule", "constant"), *place)) > 0:
                shares.append(forces.learning_rate / expected)
        changed = median(shares) if shares else 1.0
        return rate if 0.9 < changed < 1.1 else rate * changed

    @property
    def rate_ratio(self) -> float:
        """The learning rate over that which suits the optimizer; with momentum, what a gradient moves in all counts."""
        row, rate = self.row, self.learning_rate / self.suited_rate
        if not row.heavy_ball:
            return rate
        return rate * (1 - row.momentum) / (1 - float(self.settings["model.momentum"]))

    @property
    def kept_fraction(self) -> float:
        """The share of the gradient that clipping left, a geometric mean over the steps; 1 where steps are adaptive."""
        if self.row.adaptive or not self.forces:
            return 1.0
        return math.exp(fmean(math.log(max(forces.kept_fraction, 1e-12)) for forces in self.forces))

    @property
    def clipped_steps(self) -> float:
        """The share of the steps in which clipping took something away."""
        return fmean(forces.kept_fraction < 1 for forces in self.forces) if self.forces else 0.0

    @property
    def path(self) -> float:
        """How far the weights moved: the sum over all steps of ‖change‖/‖weights‖."""
        ratios = [f.update_norm / f.weight_norm for f in self.forces if f.weight_norm > 0]
        return fmean(ratios) * self.num_steps if ratios else 0.0

    @property
    def update_ratio(self) -> float:
        """The median over the steps of the largest layer's ‖change‖/‖weights‖."""
        return median(forces.largest_update_ratio for forces in self.forces) if self.forces else 0.0

    @property
    def decay_pull(self) -> float:
        """The pull of weight decay over that of the gradient, a median over the second half of the training.

        Coupled decay is part of the gradient, so that the two norms are compared; decoupled decay is part of the
        update.
        """
        decay = float(self.settings["model.weight_decay"])
        late = self.forces[len(self.forces) // 2 :]
        if not decay or not late:
            return 0.0
        if self.row.decoupled_decay:
            pulls = [f.learning_rate * decay * f.weight_norm / max(f.update_norm, 1e-30) for f in late]
        else:
            pulls = [decay * f.weight_norm / max(f.weight_gradient_norm, 1e-30) for f in late]
        return median(pulls)

    @property
    def shrinkage(self) -> float:
        """The power of e by which decoupled weight decay alone would have made the weights smaller."""
        decay = float(self.settings["model.weight_decay"])
        return decay * fmean(f.learning_rate for f in self.forces) * self.num_steps if self.forces else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain data, from which `from_dict` makes the same again."""
        return asdict(self)

    @staticmethod
    def from_dict(state: Mapping[str, Any]) -> "Evidence":
        """The reverse of `to_dict`, also after JSON, which has null in place of numbers that are not finite."""
        known = {each.name for each in fields(Evidence)}  # what another version measured beside it is left out
        state = {name: value for name, value in state.items() if name in known}
        state["history"] = [_numbers(record) for record in state["history"]]
        for name in ("train_error", "reference_error"):
            state[name] = math.nan if state[name] is None else state[name]
        return Evidence(
            **{
                **state,
                "first": probe_from(state["first"]) if state["first"] else None,
                "last": probe_from(state["last"]),
                "forces": [Forces(**_numbers(forces)) for forces in state["forces"]],
                "data": DataSummary(**state["data"]),
            }
        )


def _numbers(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: math.nan if value is None else value for name, value in state.items()}


def probe_from(state: Mapping[str, Any]) -> Probe:
    """A probe from what `dataclasses.asdict` made of it."""

    def layer(numbers: Mapping[str, Any]) -> LayerProbe:
        return LayerProbe(**_numbers(numbers) | {"effective_rank": numbers["effective_rank"]})

    layers = {"hidden": [layer(numbers) for numbers in state["hidden"]], "output": layer(state["output"])}
    return Probe(**{**_numbers(state), **layers})
