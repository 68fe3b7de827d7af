"""A study as data: a question, its arms, its seeds, its claims."""

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from project.settings import Settings
from project.studies.claims import Claim

Phase = Literal["tune", "final"]
FIRST_TUNING_SEED = 1000
"""Tuning and searching use seeds from here on, the comparison those below: no result is scored on what chose it."""
STUDY_DEFAULTS: Settings = {
    "trainer.logger": False,
    "trainer.enable_checkpointing": False,
    "trainer.enable_progress_bar": False,
    "diagnostics.enabled": False,
    "patience": 0,
}
"""A study's runs all train equally long and are scored as they end; a study that wants the best epoch asks for it."""
OWN_SETTINGS = ("seed_everything", "run_name", "run_root", "resume", "debug")
"""Settings that the study itself decides."""
LOWER_IS_BETTER = ("loss", "rmse", "mae", "error", "seconds", "gap")
"""A metric whose last part holds one of these is to be small."""


@dataclass(frozen=True)
class Range:
    """Numbers from low to high; whole ones if both ends are whole.

    Attributes:
        low: Smallest value.
        high: Largest value.
        log: Whether factors count, not differences.
    """

    low: float
    high: float
    log: bool = False

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def at(self, share: float) -> float:
        """The value at a share in [0, 1) of the way, four significant digits."""
        high = self.high + 1 if self.whole else self.high
        value = self.low * (high / self.low) ** share if self.log else self.low + (high - self.low) * share
        return min(int(value), int(self.high)) if self.whole else float(f"{value:.4g}")


@dataclass(frozen=True)
class Tuning:
    """Settings that are chosen for each arm on validation, with the same budget for all.

    Attributes:
        points: The settings to try, the same for every arm.
        seeds: On which each is tried.
        spaces: What each setting was drawn from.
    """

    points: tuple[Settings, ...]
    seeds: tuple[int, ...]
    spaces: dict[str, list[Any] | Range]


@dataclass(frozen=True)
class Search:
    """Settings that are sampled by TPE and pruned on validation.

    Attributes:
        spaces: A list of values or a range for each setting.
        trials: How many settings are tried.
        seed: Of the sampler, and of every trial's run.
    """

    spaces: dict[str, list[Any] | Range]
    trials: int
    seed: int = FIRST_TUNING_SEED


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        phase: tune or final.
        arm: The arm's name.
        seed: Of the run.
        settings: All of the study's settings for it; a tuned arm's final runs lack what tuning will choose.
        point: Which of the tuning's points; −1 for a final run.
        tuning: Fingerprint of the tuning that a final run waits for, else empty.
    """

    phase: Phase
    arm: str
    seed: int
    settings: Settings
    point: int = -1
    tuning: str = ""

    @property
    def key(self) -> str:
        """What makes this run this run: the same key is never run twice, and a changed setting changes it."""
        content = [self.phase, self.arm, self.seed, self.settings, self.tuning]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def run_name(self) -> str:
        """Its run folder's name."""
        arm = re.sub(r"[^\w.=,+-]", "_", self.arm)
        point = f"_point{self.point}" if self.phase == "tune" else ""
        return f"{arm}{point}_seed{self.seed}"


@dataclass(frozen=True)
class RunRecord:
    """What a run leaves to be compared.

    Attributes:
        arm: Name of its arm.
        seed: Of the run.
        phase: tune or final.
        status: As in metrics.json; `failed` for a run that ended with an error.
        settings: The settings that the study gave it.
        metrics: Every number that it ended with, by name.
        history: One record per epoch.
        layers: Before (`start`) and after (`end`) training: every layer's numbers in order.
        num_classes: 0 for regression.
        origin: What must be alike for a comparison: commit, changes, versions, hardware, data, splits.
        folder: The run folder.
        point: Which of the tuning's points; −1 for a final run.
        error: What went wrong, for a failed run.
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
    origin: dict[str, Any] = field(default_factory=dict)
    folder: str = ""
    point: int = -1
    error: str = ""

    def value(self, metric: str) -> float | None:
        """A metric's value; None where the run has none.

        A training that diverged has lost: its accuracy is that of guessing.
        """
        if metric in self.metrics:
            return self.metrics[metric]
        if self.status == "diverged" and metric.endswith("/accuracy") and self.num_classes:
            return 1 / self.num_classes
        return None


@dataclass(frozen=True)
class Study:
    """A question that runs can answer.

    Attributes:
        name: Of the study and of its folder.
        question: In one sentence.
        base: Settings that all arms share.
        arms: Name → settings that make the arm, in the order of the file.
        seeds: The same for every arm.
        metric: What is compared.
        claims: What is expected.
        factors: With `vary` (or with named arms beside it): each factor's values in order, by its name.
        levels: Arm → its value of each factor.
        reference: The arm that the others are compared with.
        tuning: Of nuisance settings, if any.
        search: In place of arms, if any.
        resample: Whether the split follows the seed.
        notes: Rows of the notes.
        lesson: What the notes say.
        content: The file's content with seeds and quick settings worked in.
    """

    name: str
    question: str
    base: Settings
    arms: dict[str, Settings]
    seeds: tuple[int, ...]
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
        """Whether a larger metric is a better one."""
        return larger_is_better(self.metric)

    @property
    def selection_metric(self) -> str:
        """The metric by which tuning and searching choose: of validation, never of the test set."""
        split, _, name = self.metric.partition("/")
        if split == "validation":
            return self.metric
        return f"validation/{name}" if split == "test" else "validation/loss"

    def settings(self, arm: str, seed: int) -> Settings:
        """All of the study's settings for one run."""
        split = {"data.split_seed": seed} if self.resample else {}
        return STUDY_DEFAULTS | self.base | split | self.arms[arm] | {"seed_everything": seed}

    def tuning_cells(self) -> list[Cell]:
        """The runs that tuning needs, all arms for each point and seed."""
        if self.tuning is None:
            return []
        return [
            Cell("tune", arm, seed, self.settings(arm, seed) | point, index)
            for seed in self.tuning.seeds
            for index, point in enumerate(self.tuning.points)
            for arm in self.arms
        ]

    def final_cells(self) -> list[Cell]:
        """The runs that are compared, all arms for each seed: what is there after a while is balanced."""
        tuning = ""
        if self.tuning is not None:
            content = [self.tuning.points, self.tuning.seeds, self.selection_metric]
            tuning = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
        return [
            Cell("final", arm, seed, self.settings(arm, seed), tuning=tuning)
            for seed in self.seeds
            for arm in self.arms
        ]


def larger_is_better(metric: str) -> bool:
    """Whether a larger value of a metric is a better one, by its name."""
    return not any(word in metric.rsplit("/", 1)[-1] for word in LOWER_IS_BETTER)
