"""At which level a study may judge its claims at each look, so that looking often does not raise its error."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

Array = NDArray[np.float64]
NODES = 120
"""Points of the Gauss-Legendre rule; twice as many change no level in its first six digits."""


@lru_cache
def look_levels(looks: tuple[int, ...], total: float) -> tuple[float, ...]:
    """Nominal two-sided level of each look at a growing sample.

    The looks share the total level in proportion to the new values of each: a spending function α·t. Early looks get
    more than with O'Brien & Fleming's plan, so that a large difference is decided with few seeds. What a look may
    spend is the probability to reject at it and at none before, from the joint normal distribution of the sums,
    integrated from look to look. Few values are told apart by t, whose statistics agree less from look to look than
    those of a known variance: the total is divided by 1 + 0.6 / looks[0], which simulations ask for.

    Args:
        looks: The numbers of values at the looks, increasing.
        total: The probability that some look rejects what is true.

    Source: Lan & DeMets 1983; Kim & DeMets 1987 (their α·t^ρ with ρ = 1); Armitage, McPherson & Rowe 1969 (recursion).
    """
    if len(looks) == 1:
        return (total,)
    nodes, node_weights = np.polynomial.legendre.leggauss(NODES)
    per_value = total / (1 + 0.6 / looks[0]) / looks[-1]
    levels: list[float] = []
    sums, weights = np.zeros(1), np.ones(1)  # where the sum stands that no look has rejected so far, and how probably
    for before, n in zip((0, *looks), looks, strict=False):
        sd = math.sqrt(n - before)
        bound = optimize.brentq(_excess, 0.0, 12 * math.sqrt(n), (sums, weights, sd, per_value * (n - before)))
        levels.append(2 * float(special.ndtr(-bound / math.sqrt(n))))
        now = bound * nodes
        density = np.exp(-(((now[:, None] - sums) / sd) ** 2) / 2) / (sd * math.sqrt(2 * math.pi)) @ weights
        sums, weights = now, density * node_weights * bound
    return tuple(levels)


def _excess(bound: float, sums: Array, weights: Array, sd: float, share: float) -> float:
    """By how much the probability that the next sum is larger than the bound, on either side, exceeds a share."""
    return float(weights @ (special.ndtr((-bound - sums) / sd) + special.ndtr((sums - bound) / sd))) - share
