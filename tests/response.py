"""A made-up response surface in the place of trainings: what a setting costs is known, and trials take time."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from project.runs.parser import parse_settings
from project.settings import Settings, flatten
from project.studies.explain.bench import Bench, Budget
from project.studies.explain.explain import trial_settings
from project.studies.explain.search import Search

Accuracy = Callable[[Settings], float]
"""From a trial's settings to its accuracy without noise, in [0, 1]."""
SECONDS_PER_EXAMPLE = 2.3 / 50_000
"""Of a trial on one core: five epochs on 10,000 examples take 2.3 seconds."""


def settings_with(*flags: str) -> Settings:
    """A run's settings as its trials have them, with 5 epochs on 10,000 examples unless the flags say otherwise."""
    usual = ["--data.num_train=10000", "--trainer.max_epochs=5"]
    return trial_settings(flatten(parse_settings([*usual, *flags]).as_dict()))


class Surface:
    """Trainings that cost time on a clock of their own, and reach what a formula says, plus noise from the seed."""

    def __init__(self, accuracy: Accuracy, workers: int = 2, noise: float = 0.002) -> None:
        self.accuracy, self.workers, self.noise = accuracy, workers, noise
        self.now = 100.0
        self.asked: list[Settings] = []

    def run(self, trials: Sequence[Settings], until: float) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, settings in enumerate(trials):
            if self.now >= until:
                return
            self.asked.append(settings)
            limit = settings["trainer.limit_train_batches"]
            examples = settings["data.num_train"] or 55_000
            passed = min(examples, limit * settings["data.batch_size"]) if isinstance(limit, int) else examples
            seconds = 0.25 + passed * settings["trainer.max_epochs"] * SECONDS_PER_EXAMPLE
            self.now += seconds / self.workers
            draw = np.random.default_rng([settings["seed_everything"], len(self.asked)]).normal()
            steps = passed // settings["data.batch_size"] * settings["trainer.max_epochs"]
            yield (
                number,
                {
                    "status": "completed",
                    "validation/accuracy": self.accuracy(settings) + self.noise * draw,
                    "guessing": 0.1,
                    "examples": examples,
                    "steps": steps,
                    "train_seconds": seconds - 0.25,
                    "seconds": seconds,
                },
            )

    def search(self, settings: Settings, remedies: Sequence[Sequence[str]] = (), seconds: float = 60.0) -> Search:
        """Search on this surface."""
        budget = Budget(seconds, self.workers, lambda: self.now)
        found = Search(Bench(settings, self.run, budget), remedies)
        found.search()
        return found
