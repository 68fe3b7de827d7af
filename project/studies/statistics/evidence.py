"""What a study's runs say of a claim: one number per seed, and what the reader must know of them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from project.errors import InputError
from project.studies.claims import Claim
from project.studies.statistics.collapse import collapsed_seeds
from project.studies.statistics.estimates import Sample
from project.studies.study import RunRecord, larger_is_better

WORST: dict[str, float] = {
    **dict.fromkeys(("loss", "rmse", "mae", "calibration_error"), math.inf),
    **dict.fromkeys(("accuracy", "macro_f1", "roc_auc", "r2"), -math.inf),
}
"""What a training that diverged counts as by the last part of a metric's name, where the metric cannot be computed."""
Runs = Mapping[tuple[str, int], RunRecord]
"""The final runs by arm and seed."""


@dataclass(frozen=True)
class Evidence:
    """The numbers by which a claim is judged.

    Attributes:
        values: For each seed the claim's left side minus its right side.
        left_out: Seeds without a number: a run of theirs failed, or has no such metric.
        collapsed: Arms in which some seeds collapsed, with the number of these.
        no_worst: Arms with a diverged training whose metric has no worst value, so that it cannot count as that.
    """

    values: dict[int, float]
    left_out: tuple[int, ...]
    collapsed: dict[str, int]
    no_worst: tuple[str, ...]

    @cached_property
    def sample(self) -> Sample:
        return Sample(tuple(self.values.values()), flips=bool(self.collapsed))


def final_runs(records: Iterable[RunRecord]) -> dict[tuple[str, int], RunRecord]:
    """The runs that are compared, by arm and seed."""
    return {(record.arm, record.seed): record for record in records if record.phase == "final"}


def chance_of(records: Iterable[RunRecord]) -> float | None:
    """The accuracy of guessing; None for regression."""
    return next((1 / record.num_classes for record in records if record.num_classes), None)


def result_of(record: RunRecord, metric: str) -> float:
    """What a run counts as: its metric, the worst value if its training diverged without one, NaN if neither exists."""
    value = None if record.status == "failed" else record.value(metric)
    if value is not None and math.isfinite(value):
        return value
    return WORST.get(metric.rsplit("/", 1)[-1], math.nan) if record.status == "diverged" else math.nan


def gather(claim: Claim, runs: Runs, seeds: Sequence[int], chance: float | None) -> Evidence:
    """What the runs of some seeds say of a claim.

    Raises:
        InputError: If the claim is about chance and there is none.
    """
    if chance is None and "chance" in claim.weights and runs:
        raise InputError(f"claim {claim.text!r}: regression has no chance", "name a number in its place")
    results: dict[str, dict[int, float]] = {}
    no_worst = []
    for arm in claim.arms:
        found = {seed: runs[arm, seed] for seed in seeds if (arm, seed) in runs}
        values = {seed: result_of(record, claim.metric) for seed, record in found.items()}
        results[arm] = {seed: value for seed, value in values.items() if not math.isnan(value)}
        if any(math.isnan(values[seed]) and record.status == "diverged" for seed, record in found.items()):
            no_worst.append(arm)
    known = [seed for seed in seeds if all(seed in values for values in results.values())]
    collapsed = {
        arm: collapsed_seeds([v[s] for s in known], larger_is_better(claim.metric)) for arm, v in results.items()
    }
    fixed = claim.weights.get("", 0.0) + claim.weights.get("chance", 0.0) * (chance or 0.0)
    return Evidence(
        {seed: _combine(claim, {arm: values[seed] for arm, values in results.items()}, fixed) for seed in known},
        tuple(seed for seed in seeds if seed not in known),
        {arm: number for arm, number in collapsed.items() if number},
        tuple(no_worst),
    )


def _combine(claim: Claim, results: Mapping[str, float], fixed: float) -> float:
    """Left minus right for one seed; if both sides are equally bad without limit, what is left decides."""
    parts = [(claim.weights[arm], value) for arm, value in results.items()]
    excess = sum(math.copysign(weight, weight * value) for weight, value in parts if math.isinf(value))
    if excess:
        return math.copysign(math.inf, excess)
    # 0.3 − 0.1 must not differ from 0.2 by rounding alone
    return round(fixed + sum(weight * value for weight, value in parts if math.isfinite(value)), 12)
