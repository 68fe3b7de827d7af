"""The table of further quantities that a probe measures in each hidden layer; it imports no torch."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

DIAGNOSTICS: "dict[str, Callable[[Tensor, Tensor], Tensor]]" = {}
"""By name: from one layer's pre-activations and activations, (examples, units) each, to a scalar. The loggers show each
as layer_NAME/LAYER. What the project itself measures is in `probe`; this is the place for a user's own."""
