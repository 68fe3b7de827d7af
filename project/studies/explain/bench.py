"""Trials of one run's changes within a budget: how long they take, what they scored, what a change is worth."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from project.errors import counted
from project.settings import Settings
from project.studies.explain.candidates import key, short_words
from project.studies.explain.effects import Effect, Trial, paired_effect, score_of
from project.studies.explain.sizes import Size, num_steps, resize, sizes

RunTrials = Callable[[Sequence[Settings], float], Iterable[tuple[int, dict[str, Any]]]]
"""Run trials, and give the position and the result of each as it is ready; after a time of the clock, start no more."""
PROBED_BATCHES = 40
WARM = 0.5
"""The share of the time before which a second measurement may start."""
SMALLER_STEP = 0.6
"""Share of a step's time that a step of half the batch takes, measured on networks of 256 and 512 units."""
OWN: Settings = {}
"""The run's own settings: no changes."""


@dataclass(frozen=True)
class Budget:
    """How long it may take.

    Args:
        seconds: From `start` on.
        workers: How many trials run at the same time.
        clock: It gives the time in seconds; tests have one of their own.
        start: When it began; now, if it is not given.
    """

    seconds: float
    workers: int
    clock: Callable[[], float] = time.monotonic
    start: float = math.nan

    def __post_init__(self) -> None:
        if math.isnan(self.start):
            object.__setattr__(self, "start", self.clock())  # frozen: nobody else sets it

    @property
    def end(self) -> float:
        return self.start + self.seconds


@dataclass(eq=False)
class Bench:
    """Where changes of one run's settings are tried beside the run as it is.

    Args:
        settings: All of the run's settings by their flags' names.
        run: It runs trials.
        budget: How long they may take.
        show: It is called with what is being done.
        trials: All trials so far, without those that only measure the time.
        num_train: The examples of the run's training split.
    """

    settings: Settings
    run: RunTrials
    budget: Budget
    show: Callable[[str], None] = lambda _: None
    trials: list[Trial] = field(default_factory=list)
    num_train: int = 1

    def __post_init__(self) -> None:
        self._started, self._per_step, self._overhead = self.budget.start, 0.0, 0.0

    def measure(self) -> bool:
        """Measure how long a step takes; return whether that succeeded.

        Each worker's first trial is slow, because it loads the data and what training needs. If there is time, it gets
        a second one.
        """
        self.show("measuring how long a trial takes")
        parts = self.settings.get("trainer.accumulate_grad_batches") or 1
        short: Settings = {"trainer.max_epochs": 1, "trainer.max_steps": -1, "trainer.min_epochs": None}
        short["model.learning_rate"] = 1e-6  # a run that diverges would end before its time is known
        probe = self.settings | short | {"trainer.limit_train_batches": PROBED_BATCHES * parts}
        until = self.budget.start + WARM * self.budget.seconds
        measured = [result for _, result in self.run([probe] * 2 * self.budget.workers, until)]
        self._started = self.budget.clock()
        measured = [result for result in measured if result.get("examples")]
        if not measured:
            return False
        fastest = min(measured, key=lambda result: float(result["seconds"]))
        training = float(fastest.get("train_seconds") or fastest["seconds"])
        self.num_train = int(fastest["examples"])
        self._per_step = training / max(int(fastest.get("steps") or 0), 1)
        self._overhead = max(float(fastest["seconds"]) - training, 0.0)
        return True

    def seconds(self, size: Size, changes: Settings = OWN) -> float:
        """About how long a trial takes."""
        steps = num_steps(resize(self.settings | changes, size), size.num_train or self.num_train)
        halvings = size.batch_divisor.bit_length() - 1
        return float(self._overhead + steps * self._per_step * SMALLER_STEP**halvings)

    def longest(self, seconds: float) -> Size:
        """The longest trials that take at most so many seconds each; the shortest there are, if none does."""
        possible = sizes(self.settings, self.num_train)
        return next((size for size in possible if self.seconds(size) <= seconds), possible[-1])

    def at(self, share: float) -> float:
        """The time at which a share of what was left after the measuring is over."""
        return self._started + share * (self.budget.end - self._started)

    def seed(self, number: int) -> int:
        """The run's own seed, plus a number."""
        return (int(self.settings["seed_everything"]) + number) % 2**32

    def evaluate(self, phase: str, changes: Iterable[Settings], size: Size, seeds: Sequence[int], share: float) -> None:
        """Run the trials that are missing, and the run's own beside them, seed by seed, until a share of the time."""
        once = {key(change): change for change in [OWN, *changes]}
        wanted = [(change, seed) for seed in seeds for change in once.values() if seed not in self.scores(change, size)]
        settings = [resize(self.settings | change, size) | {"seed_everything": seed} for change, seed in wanted]
        waiting = [short_words(change) or "the run as it is" for change, _ in wanted]
        left = list(range(len(wanted)))

        def show() -> None:
            # workers take the trials in their order: those that run are the first that have not ended
            running = "; ".join(dict.fromkeys(waiting[number] for number in left[: self.budget.workers]))
            self.show(
                f"{phase}, {len(wanted) - len(left)} of {counted(len(wanted), 'trial')} done: {running or 'ended'}"
            )

        if wanted:
            show()
        for number, result in self.run(settings, self.at(share) - self.seconds(size)):
            (change, seed), score = wanted[number], score_of(result, self.settings["model.task"])
            status, examples, took = str(result.get("status")), result.get("examples"), result.get("seconds", 0.0)
            self.trials.append(Trial(change, size, seed, score, status, settings[number], examples, took))
            left.remove(number)
            show()

    def scores(self, changes: Settings, size: Size) -> dict[int, float]:
        """What some changes scored, by seed."""
        wanted = key(changes)
        return {t.seed: t.score for t in self.trials if t.size == size and key(t.changes) == wanted}

    def effect(self, changes: Settings, size: Size, seeds: Iterable[int] | None = None) -> Effect:
        """What changes are worth at a size, over all seeds or some, paired with the run's own settings."""
        own, other = self.scores(OWN, size), self.scores(changes, size)
        both = [seed for seed in own if seed in other and (seeds is None or seed in set(seeds))]
        return paired_effect([other[seed] for seed in both], [own[seed] for seed in both])

    def tried(self, size: Size) -> list[Settings]:
        """Changes that were tried at a size with every seed that the run's own settings were tried with."""
        own = set(self.scores(OWN, size))
        unique = {key(trial.changes): trial.changes for trial in self.trials if trial.size == size and trial.changes}
        return [changes for changes in unique.values() if own and own <= set(self.scores(changes, size))]
