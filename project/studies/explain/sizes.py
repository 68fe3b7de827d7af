"""How a trial is made shorter than the run without losing what makes the run sick.

A run with few optimizer steps is sick of just that: its trials keep the steps, and have fewer examples in smaller
batches. A run with many steps keeps its batches, and has fewer steps: schedule and warm-up are shares of the whole
training, so they shrink with it. Whatever can be afforded is replayed exactly as it is.
"""

from dataclasses import dataclass
from typing import Any

from project.settings import Settings

KEPT_STEPS = 150
"""A trial is not cut below so many optimizer steps while there is anything else to cut."""
MIN_BATCH = 32
MIN_EXAMPLES = 1000


@dataclass(frozen=True)
class Size:
    """How much shorter than the run a trial is.

    Args:
        num_train: Training examples; None leaves the run's own number.
        batch_divisor: The batch is so many times smaller.
        epochs_divisor: There are so many times fewer epochs.
    """

    num_train: int | None = None
    batch_divisor: int = 1
    epochs_divisor: int = 1


WHOLE = Size()
"""The run as it is."""


def resize(settings: Settings, size: Size) -> Settings:
    """The settings of a trial of this size."""
    if size == WHOLE:
        return dict(settings)
    parts = settings.get("trainer.accumulate_grad_batches") or 1
    batch = settings["data.batch_size"]
    if size.batch_divisor > 1:
        batch = min(batch, max(batch // size.batch_divisor // parts, 4) * parts)
    if size.num_train is not None:
        batch = min(batch, size.num_train // parts * parts)
    changed: dict[str, Any] = {"data.batch_size": batch}
    if size.num_train is not None:
        changed["data.num_train"] = size.num_train
    for name in ("trainer.max_epochs", "trainer.max_steps"):
        amount = settings.get(name)
        if isinstance(amount, int) and amount > 0:
            changed[name] = -(-amount // size.epochs_divisor)
    return settings | changed


def num_steps(settings: Settings, num_train: int) -> int:
    """Optimizer steps of a training on so many examples."""
    steps = num_train // int(settings["data.batch_size"])
    limit = settings.get("trainer.limit_train_batches")
    passes = settings.get("trainer.accumulate_grad_batches") or 1
    if limit is not None:  # above 1 a number of batches, also if it was read as 4.0; up to 1 a share of them
        steps = min(steps, int(limit) // passes) if limit > 1 else int(steps * limit)
    epochs, most = settings.get("trainer.max_epochs"), int(settings.get("trainer.max_steps") or -1)
    total = steps * (epochs if isinstance(epochs, int) and epochs > 0 else 1000)
    return max(min(total, most) if most > 0 else total, 1)


def sizes(settings: Settings, num_train: int) -> list[Size]:
    """The run itself, then ever shorter trials, each about half of the one before.

    Args:
        settings: The run's.
        num_train: The examples of its training split.
    """
    size, found = WHOLE, [WHOLE]
    while True:
        shorter = resize(settings, size)
        examples, batch = size.num_train or num_train, shorter["data.batch_size"]
        steps, epochs = num_steps(shorter, examples), shorter.get("trainer.max_epochs") or 1
        enough = examples // 2 >= MIN_EXAMPLES
        if steps < 2 * KEPT_STEPS and enough and batch // 2 >= MIN_BATCH:
            size = Size(examples // 2, size.batch_divisor * 2, size.epochs_divisor)
        elif enough and examples // 2 >= batch and num_steps(shorter, examples // 2) < steps:
            size = Size(examples // 2, size.batch_divisor, size.epochs_divisor)
        elif epochs > 1 or (shorter.get("trainer.max_steps") or -1) > 1:
            size = Size(size.num_train, size.batch_divisor, size.epochs_divisor * 2)
        else:
            return found
        found.append(size)
