"""Normalizations between linear map and activation by name, one row each. This module imports no torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch.nn import Module


@dataclass(frozen=True, kw_only=True)
class Norm:
    """One normalization.

    Attributes:
        build: It makes the module from `torch.nn` and the number of units.
        title: How it is written in a layer table and in sentences; it is None where there is no norm.
        over: What one mean and variance are taken over: the examples, for each unit; or the units, for each example. It
            is None where there is no norm.
    """

    build: Callable[[Any, int], "Module"]
    title: str | None
    over: Literal["examples", "units"] | None


NORMS: dict[str, Norm] = {
    "none": Norm(build=lambda nn, _: nn.Identity(), title=None, over=None),
    "batch": Norm(build=lambda nn, units: nn.BatchNorm1d(units), title="batch norm", over="examples"),
    "layer": Norm(build=lambda nn, units: nn.LayerNorm(units), title="layer norm", over="units"),
}


def is_normed(norm: str, depth: int) -> bool:
    """Whether a network with so many hidden layers has a norm anywhere."""
    return depth > 0 and NORMS[norm].over is not None
