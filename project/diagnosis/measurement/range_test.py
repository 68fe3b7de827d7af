"""Which learning rates move this network and which ones break it, found in a second before the training.

Source: Smith 2017, "Cyclical Learning Rates for Training Neural Networks", section 3.3, the learning rate range test.
"""

import copy
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from project.data.augmentation import Batch
from project.network.optimization.optimizers import OPTIMIZERS
from project.training.module import ImageModule

NUM_STEPS = 80
"""Steps of the test: the rate grows by about a fifth from one to the next."""
FACTOR = 1000.0
"""The rates go from the optimizer's usual one divided by this to the usual one times this."""
SMOOTHING = 0.8
"""The share of the running mean of losses that is kept from step to step."""
FIRST_FALL = 0.1
"""The loss falls from where it has lost this share of what it loses in all."""
BREAK = 0.5
"""A rate breaks the network where the loss has risen from its minimum by this share of what it had lost, or where it is
no longer a number."""


@dataclass(frozen=True)
class RateRange:
    """What a range test found.

    Attributes:
        rates: The learning rates, ascending.
        losses: The smoothed loss at each of them, as long as it was a number.
        slowest: The smallest rate at which the loss falls; None if it never does.
        breaking: The rate at which the loss rises again; None if none of the rates breaks the network.
    """

    rates: list[float]
    losses: list[float]
    slowest: float | None
    breaking: float | None


def range_test(module: ImageModule, batches: Iterable[Batch]) -> RateRange:
    """Train a copy of a network for a few steps, with a learning rate that grows from step to step.

    Args:
        module: The network with its loss and its optimizer; it is left as it is.
        batches: Training batches on the network's device; they are taken again and again if there are few.
    """
    trial = copy.deepcopy(module).train()
    optimizer = trial.build_optimizer(fused=False)
    usual = OPTIMIZERS[module.settings.optimizer].learning_rate
    rates = [usual * FACTOR ** (2 * step / (NUM_STEPS - 1) - 1) for step in range(NUM_STEPS)]
    losses: list[float] = []
    mean = 0.0
    with torch.random.fork_rng(), torch.enable_grad():
        for step, (rate, batch) in enumerate(zip(rates, itertools.cycle(batches), strict=False)):
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss, _ = trial.loss_and_score(batch)
            if not math.isfinite(value := float(loss.detach())):
                break
            mean = SMOOTHING * mean + (1 - SMOOTHING) * value
            losses.append(mean / (1 - SMOOTHING ** (step + 1)))  # as in Adam, the mean starts at 0
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return read_range(rates, losses)


def read_range(rates: list[float], losses: list[float]) -> RateRange:
    """Find where the smoothed losses of a range test begin to fall and where they rise again."""
    if not losses:
        return RateRange(rates, losses, None, rates[0])
    lowest = min(range(len(losses)), key=losses.__getitem__)
    lost = losses[0] - losses[lowest]
    if lost <= 0.01 * abs(losses[0]):  # no rate makes it fall
        return RateRange(rates, losses, None, rates[len(losses)] if len(losses) < len(rates) else None)
    slowest = next(rate for rate, loss in zip(rates, losses, strict=False) if loss <= losses[0] - FIRST_FALL * lost)
    rising = (
        rate
        for rate, loss in zip(rates[lowest:], losses[lowest:], strict=False)
        if loss > losses[lowest] + BREAK * lost
    )
    breaking = next(rising, rates[len(losses)] if len(losses) < len(rates) else None)
    return RateRange(rates, losses, slowest, breaking)
