"""Trainings with a known cause: `development`, from which thresholds may be chosen, and `report`, for figures alone."""

from dataclasses import dataclass, field
from typing import Any

Settings = dict[str, Any]

CAUSES: dict[str, set[str]] = {
    "model.learning_rate high": {"learning_rate_high"},
    "model.learning_rate low": {"learning_rate_low"},
    "model.weight_decay": {"weight_decay_strong"},
    "model.dropout": {"dropout_strong"},
    "model.label_smoothing": {"label_smoothing_strong"},
    "trainer.gradient_clip_val": {"clipping_tight"},
    "model.momentum": {"momentum_long"},
    "model.warmup_fraction": {"warmup_long"},
    "steps": {"too_few_steps"},
    "data.batch_size small": {"batch_small", "learning_rate_high"},
    "data.normalization": {"inputs_not_normalized"},
    "symmetry": {"zero_weights", "identical_units"},
    "init large": {"init_large", "exploding_gradient"},
    "init small": {"init_small", "vanishing_gradient", "collapsed_representation"},
    "init normal": {"init_small", "init_large", "vanishing_gradient", "exploding_gradient"},
    "model.init_bias": {"init_bias", "born_dead"},
    "vanishing": {"vanishing_gradient"},
    "collapse": {"vanishing_gradient", "collapsed_representation", "exploding_gradient", "init_small", "init_large"},
    "narrow": {"too_narrow"},
    "linear": {"linear_network"},
    "model.loss": {"loss_unsuited"},
    "model.huber_delta": {"loss_unsuited"},
    "data.augmentation": {"augmentation_strong"},
    "data.num_train": {"few_examples"},
    "patience": {"stopped_too_early"},
    "born dead": {"born_dead"},
}
"""For each cause the codes of the findings that name it."""


@dataclass(frozen=True)
class Case:
    """A training that is sick for a known reason, or a healthy one.

    Args:
        name: A short name that is unique within its half.
        around: The settings that are healthy: they are the known fix.
        sick: The settings that make it sick; none for a healthy case.
        causes: The keys of `CAUSES` that are true of it.
    """

    name: str
    around: Settings
    sick: Settings = field(default_factory=dict)
    causes: tuple[str, ...] = ()
