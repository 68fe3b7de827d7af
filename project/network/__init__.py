"""The network and what trains it, as plain torch: it knows nothing of Lightning, data or settings files.

The modules with a table, and this one, import no torch: the command line checks settings before torch is loaded.
"""

import math
from collections.abc import Sequence

from project.errors import InputError, check_choice
from project.network.activations import check_activation
from project.network.initializers import INITIALIZERS
from project.network.norms import NORMS


def check_network(
    depth: int,
    width: int | Sequence[int],
    *,
    activation: str,
    activation_parameter: float | None,
    init: str,
    init_scale: float,
    init_bias: float,
    norm: str,
    dropout: float,
) -> None:
    """Check the settings of a network; they are those of the run's section `model`, by the same names.

    Raises:
        InputError: If a name, a size, a number or a combination makes no network.
    """
    if depth < 0:
        raise InputError(
            f"model.depth is {depth}, but must be 0 or more hidden layers",
            "type for example --model.depth 2",
        )
    if not isinstance(width, int) and len(width) != depth:
        example = f"--model.depth {len(width)}" if width else "--model.width 512"
        raise InputError(
            f"model.width lists {len(width)} layers, but model.depth is {depth}",
            f"type {example}, or one width per hidden layer",
        )
    if any(units < 1 for units in ([width] if isinstance(width, int) else width)):
        raise InputError(
            f"model.width is {width}, but every hidden layer needs at least 1 unit",
            "type for example --model.width 512",
        )
    check_activation(activation, activation_parameter)
    check_choice("initialization", init, INITIALIZERS)
    if not (init_scale > 0 and math.isfinite(init_scale)):
        raise InputError(
            f"model.init_scale is {init_scale:g}, but must be finite and positive",
            "type for example --model.init_scale 1.0, or --model.init zeros for weights of 0",
        )
    if not math.isfinite(init_bias):
        raise InputError(
            f"model.init_bias is {init_bias:g}, but must be finite", "type for example --model.init_bias 0.1"
        )
    check_choice("norm", norm, NORMS)
    if not 0 <= dropout < 1:
        raise InputError(
            f"model.dropout is {dropout:g}, but must be at least 0 and less than 1",
            "type for example --model.dropout 0.2",
        )
