"""What a trial scored, and what a change is worth: differences between trials of the same seed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from project.settings import Settings
from project.studies.explain.sizes import Size
from project.studies.statistics.estimates import estimate
from project.training.callbacks import FINISHED

WORTH = 0.5
"""Points that one more change must bring, so that nobody is asked to change what hardly matters."""
CLEAR = 2.0
"""Points that two trainings with different seeds rarely differ by, on a thousand validation examples or more."""


@dataclass(frozen=True)
class Trial:
    """One short training.

    Args:
        changes: What differs from the run's settings.
        size: How much shorter than the run it is.
        seed: Its `seed_everything`.
        score: In points, see `score_of`.
        status: completed, early_stopped, out_of_time, diverged or failed.
        settings: All that it was trained with.
        examples: Of its training split; None if it failed before.
        seconds: How long it took.
    """

    changes: Settings
    size: Size
    seed: int
    score: float
    status: str
    settings: Settings
    examples: int | None
    seconds: float


@dataclass(frozen=True)
class Effect:
    """By how many points trials with a change are better than those without.

    Args:
        points: The mean over the seeds; NaN without any.
        low: The lower end of its 95 % interval; None with fewer than two seeds, which say nothing of the spread.
        high: The upper end.
        seeds: How many pairs of trials there are.
        worst: The smallest difference of a pair; NaN without any.
    """

    points: float
    low: float | None
    high: float | None
    seeds: int
    worst: float

    @property
    def helps(self) -> bool:
        """Whether it is more than noise: the whole interval is above 0, or every seed gains clearly."""
        above = self.low is not None and self.low > 0
        return self.points >= WORTH and (above or self.worst > CLEAR)


def paired_effect(with_change: Sequence[float], without: Sequence[float]) -> Effect:
    """The effect and Student's interval from scores that belong together by their seeds, in the same order."""
    differences = [a - b for a, b in zip(with_change, without, strict=True)]
    found, worst = estimate(differences), min(differences, default=math.nan)
    low, high = (found.low, found.high) if found.bounded else (None, None)
    return Effect(found.mean, low, high, found.n, worst)


def score_of(result: dict[str, Any], task: str) -> float:
    """A trial's score in points, from what `run_trial` returned.

    That is the accuracy in percent. For regression it is minus the rmse, in percent of the rmse of always predicting
    the mean. It is of the validation split; of the training split, where there is none. A trial that diverged or failed
    scores like guessing.
    """
    name = "rmse" if task == "regression" else "accuracy"
    value = float(result.get(f"validation/{name}", result.get(f"train/{name}", math.nan)))
    guessing = float(result.get("guessing", 0.0))
    finished = result.get("status") in FINISHED and math.isfinite(value)
    if task != "regression":
        return 100.0 * (value if finished else guessing)
    return max(-100.0 * value / guessing, -100.0) if finished and guessing else -100.0
