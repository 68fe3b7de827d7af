"""A study as data: its question, its arms, its seeds and its claims."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

from project.settings import Settings
from project.studies.claims import Claim

Phase = Literal["tune", "final"]
FIRST_TUNING_SEED = 1000
"""Tuning and searching use seeds from here on, the comparison smaller ones: no run is both chosen and compared."""
STUDY_DEFAULTS: Settings = {
    "trainer.logger": False,
    "trainer.enable_checkpointing": False,
    "trainer.enable_progress_bar": False,
    "diagnostics.enabled": False,
    "patience": 0,
}
"""A study's runs all train for the same number of epochs and are scored as they end, unless its file says otherwise."""
OWN_SETTINGS = ("seed_everything", "run_name", "run_root", "resume", "debug")
"""The study itself decides these settings."""
LOWER_IS_BETTER = ("loss", "rmse", "mae", "error", "seconds", "gap")
"""If the last part of a metric's name contains one of these, a smaller value is better."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, on a logarithmic scale if `log` is true."""

    low: float
    high: float
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether the range has whole numbers only: both of its ends are whole."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def at(self, share: float) -> float:
        """The value at a share in [0, 1) of the way, rounded to four significant digits or to a whole number."""
        high = self.high + 1 if self.whole else self.high
        value = self.low * (high / self.low) ** share if self.log else self.low + (high - self.low) * share
        return min(int(value), int(self.high)) if self.whole else float(f"{value:.4g}")


Space = list[Any] | Range
"""What a setting is chosen from: a list of values, or a range."""


@dataclass(frozen=True)
class Tuning:
    """The points to try anew for every arm and seed; the validation results choose one (Bouthillier et al. 2021)."""

    points: tuple[Settings, ...]
    spaces: dict[str, Space]


@dataclass(frozen=True)
class Search:
    """A search for good settings: TPE proposes them, and bad trials are stopped early by their validation results."""

    spaces: dict[str, Space]
    trials: int


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        seed: This is the seed of the comparison that the run belongs to; tuning trains with FIRST_TUNING_SEED more.
        settings: These are all settings that the study gives the run, with those that tuning or searching chose.
        point: This is the index of the tuning's point; it is −1 for a final run.
    """

    phase: Phase
    arm: str
    seed: int
    settings: Settings
    point: int = -1

    @cached_property
    def key(self) -> str:
        """The run's identity: a study never repeats a run with the same key, and a changed setting changes the key."""
        return _digest([self.phase, self.arm, self.settings])

    @property
    def label(self) -> str:
        """How people call the run."""
        return f"{'tuning ' if self.phase == 'tune' else ''}{self.arm} seed {self.seed}"

    @property
    def run_name(self) -> str:
        """The name of the run's folder."""
        point = f"_point{self.point}" if self.phase == "tune" else ""
        return re.sub(r"[^\w.=,+-]", "_", self.arm) + f"{point}_seed{self.seed}"


@dataclass(frozen=True)
class RunRecord:
    """What is kept of a run to compare it with others.

    Attributes:
        status: This is the status of metrics.json, or `failed` if the run ended with an error.
        history: It has one record per epoch.
        layers: It holds each layer's numbers in order, before (`start`) and after (`end`) training.
        num_classes: It is 0 for regression.
        correct: For each test example a bit that says whether the run classified it correctly, as hexadecimal digits
            (numpy's packbits); it is empty for regression and for runs that did not score the test set.
        num_test: So many test examples were scored.
        origin: Runs are comparable if these agree: commit, changes, versions, hardware, data, splits.
    """

    arm: str
    seed: int
    phase: Phase = "final"
    status: str = "completed"
    settings: Settings = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    layers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    num_classes: int = 0
    correct: str = ""
    num_test: int = 0
    origin: dict[str, Any] = field(default_factory=dict)
    folder: str = ""
    point: int = -1
    error: str = ""

    def value(self, metric: str) -> float | None:
        """A metric's value; None if the run has none. The accuracy of a training that diverged is that of guessing."""
        if metric in self.metrics:
            return self.metrics[metric]
        if self.status == "diverged" and metric.endswith("/accuracy") and self.num_classes:
            return 1 / self.num_classes
        return None


@dataclass(frozen=True)
class Study:
    """A question that runs can answer.

    Attributes:
        arms: Each arm has a name and the settings that make it, in the order of the file.
        factors: With `vary`, each factor has a name, and names for its values in order.
        levels: With `vary`, each arm has one value of each factor.
        seeds: All seeds that the study may use, in their order.
        looks: After these numbers of seeds the claims are judged. A study with a fixed number of seeds has one look.
        reference: The other arms are compared with this one.
        search: If the study searches settings, its arms are `base` and `best`.
        resample: If true, the split into training and validation examples follows the seed.
        notes: The study belongs to these rows of the course's notes, which say the `lesson`.
        content: This is what the file says, with seeds and quick settings worked in.
    """

    name: str
    question: str
    base: Settings
    arms: dict[str, Settings]
    seeds: tuple[int, ...]
    looks: tuple[int, ...]
    metric: str
    claims: tuple[Claim, ...] = ()
    factors: dict[str, list[str]] = field(default_factory=dict)
    levels: dict[str, dict[str, str]] = field(default_factory=dict)
    reference: str = ""
    tuning: Tuning | None = None
    search: Search | None = None
    resample: bool = False
    notes: tuple[str, ...] = ()
    lesson: str = ""
    content: dict[str, Any] = field(default_factory=dict)

    @property
    def maximize(self) -> bool:
        """Whether a larger value of the study's metric is better."""
        return larger_is_better(self.metric)

    @property
    def selection_metric(self) -> str:
        """The metric by which tuning and searching choose: one of validation, never of the test set."""
        split, _, name = self.metric.partition("/")
        return f"validation/{name}" if split in ("validation", "test") else "validation/loss"

    @property
    def sequential(self) -> bool:
        """Whether the study takes seeds until its claims are decided."""
        return len(self.looks) > 1

    @property
    def search_digest(self) -> str:
        """A digest of everything that decides what a search finds."""
        assert self.search is not None
        spaces = {key: asdict(s) if isinstance(s, Range) else s for key, s in self.search.spaces.items()}
        decides = [spaces, self.search.trials, self.settings("best", FIRST_TUNING_SEED), self.selection_metric]
        return _digest(decides, length=8)

    def settings(self, arm: str, seed: int) -> Settings:
        """All settings that the study gives one run."""
        split = {"data.split_seed": seed % FIRST_TUNING_SEED} if self.resample else {}
        return STUDY_DEFAULTS | self.base | split | self.arms[arm] | {"seed_everything": seed}


def _digest(content: Any, length: int = 16) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:length]


def larger_is_better(metric: str) -> bool:
    """Whether a larger value of a metric is better, by the metric's name."""
    return not any(word in metric.rsplit("/", 1)[-1] for word in LOWER_IS_BETTER)


def numbers_of(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The metrics that are finite numbers."""
    numbers = {k: v for k, v in metrics.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    return {name: float(value) for name, value in numbers.items() if math.isfinite(value)}


def format_setting(value: Any) -> str:
    """A setting's value as people write it in a settings file."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def level_name(key: str, value: Any) -> str:
    """The name of one value of a setting, such as `depth=3`, as it appears in an arm's name."""
    return f"{key.rsplit('.', 1)[-1]}={format_setting(value).replace(' ', '')}"
