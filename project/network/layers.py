"""What a network shows of itself, so that everything that looks inside works with any network.

Diagnosis, TensorBoard, export, attribution and optimizers ask a `Network` for its answers, for its representation of
the inputs, and for its `layers()`. What they cannot know of it they leave out.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from project.network.activations import ACTIVATIONS, Activation
from project.network.norms import NORMS, Norm
from project.pages import markdown_table


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer: a linear map, then norm, activation and dropout, in this order; the output layer is only the map.

    Args:
        name: `hidden 1`, …, or `output`.
        linear: The linear map, such as nn.Linear or nn.Conv2d; its weight is (units, …).
        activation: The module of the activation, which is called exactly once in a forward pass; None for the output.
        activation_name: The activation's key in `ACTIVATIONS`; None for the output.
        norm: The module of the norm, if any.
        norm_name: The norm's key in `NORMS`.
        dropout: The module of the dropout, if any.
        skips: Whether the sum of the layers before is added to the linear map's output.
    """

    name: str
    linear: nn.Module
    activation: nn.Module | None = None
    activation_name: str | None = None
    norm: nn.Module | None = None
    norm_name: str = "none"
    dropout: nn.Module | None = None
    skips: bool = False

    @property
    def weight(self) -> Tensor:
        return cast(Tensor, self.linear.weight)

    @property
    def bias(self) -> Tensor | None:
        return cast("Tensor | None", self.linear.bias)

    @property
    def num_units(self) -> int:
        """Units, or channels."""
        return self.weight.shape[0]

    @property
    def fan_in(self) -> int:
        """Inputs of one unit."""
        return self.weight[0].numel()

    @property
    def activation_row(self) -> Activation:
        """All that is known about the activation of a hidden layer."""
        return ACTIVATIONS[cast(str, self.activation_name)]

    @property
    def norm_row(self) -> Norm:
        return NORMS[self.norm_name]

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The modules that the layer consists of, in the order in which they work."""
        parts = {"linear": self.linear, "norm": self.norm, "activation": self.activation, "dropout": self.dropout}
        return {name: module for name, module in parts.items() if module is not None}


class Network(nn.Module):
    """A network whose last layer is linear; a subclass sets `output` and has `representation` and `layers`.

    It takes normalized inputs, (batch, features), the pixels of one row after the other, a pixel's channels together.
    """

    output: nn.Linear

    def forward(self, x: Tensor) -> Tensor:
        """Normalized inputs, (batch, …), to logits, (batch, outputs)."""
        return cast(Tensor, self.output(self.representation(x)))

    def representation(self, x: Tensor) -> Tensor:
        """What the output layer sees, (batch, features)."""
        raise NotImplementedError

    def layers(self) -> list[Layer]:
        """The layers in the order in which they work, the output layer last."""
        raise NotImplementedError

    @property
    def is_plain(self) -> bool:
        """Whether each layer is fully connected and works on the output of the one before alone, as theory assumes."""
        return all(isinstance(layer.linear, nn.Linear) and not layer.skips for layer in self.layers())


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards the mode is as before."""
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(was_training)


@contextmanager
def recorded_signals(network: Network) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """While this is open, a forward pass adds every hidden layer's pre-activations and activations to the list.

    Call `network.forward`: a network that was compiled in place would be compiled again, hooks and all.
    """
    signals: list[tuple[Tensor, Tensor]] = []

    def capture(_: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        signals.append((args[0], output))

    modules = [layer.activation for layer in network.layers()]
    handles = [module.register_forward_hook(capture) for module in modules if module is not None]
    try:
        yield signals
    finally:
        for handle in handles:
            handle.remove()


def num_products(network: Network, num_features: int) -> int:
    """The products of a weight and a number that the layers need for one example."""
    with evaluating(network), recorded_signals(network) as signals:  # batch norm must not learn from this example
        network.forward(torch.zeros(1, num_features))
    *hidden, output = network.layers()
    # a convolution uses its weights at each of its places
    places = [before[0].numel() // layer.num_units for layer, (before, _) in zip(hidden, signals, strict=False)]
    return output.weight.numel() + sum(layer.weight.numel() * n for layer, n in zip(hidden, places, strict=False))


class LayerRow(NamedTuple):
    """One line of the layer table (N7)."""

    layer: str
    output_shape: str
    parameters: int
    formula: str


def layer_table(network: Network) -> list[LayerRow]:
    """The layers in order: name, output shape (B, units) and number of parameters, and how they are counted."""
    layers = network.layers()
    flat = isinstance(layers[0].linear, nn.Linear)
    rows = [LayerRow("input", f"(B, {layers[0].fan_in})", 0, "")] if flat else []
    for layer in layers:
        # a layer of channels has places too, whose number depends on the input's size
        shape = f"(B, {layer.num_units})" if isinstance(layer.linear, nn.Linear) else f"(B, {layer.num_units}, …)"
        kind_of_map = "linear" if isinstance(layer.linear, nn.Linear) else type(layer.linear).__name__.lower()
        titles = {"linear": kind_of_map, "norm": layer.norm_row.title, "activation": layer.activation_name}
        for kind, part in layer.parts.items():
            count = sum(p.numel() for p in part.parameters())
            formula = str(count) if count else ""
            if count == 2 * layer.num_units:
                formula = f"2·{layer.num_units}"
            if part is layer.linear:
                biases = f" + {layer.num_units}" if layer.bias is not None else ""
                formula = f"{layer.fan_in}·{layer.num_units}{biases}"
            rows.append(LayerRow(f"{layer.name} {titles.get(kind) or kind}", shape, count, formula))
            if part is layer.linear and layer.skips:
                rows.append(LayerRow(f"{layer.name} sum with the layers before", shape, 0, ""))
    return rows


HEADER = ("layer", "output shape", "parameters", "counted as")


def _cells(network: Network) -> list[tuple[str, str, str, str]]:
    """The table as text, with the total in its last row."""
    total = LayerRow("total", "", sum(p.numel() for p in network.parameters()), "")
    rows = [*layer_table(network), total]
    return [(row.layer, row.output_shape, f"{row.parameters:,}", row.formula) for row in rows]


def layer_table_markdown(network: Network) -> str:
    """The layer table in Markdown."""
    return markdown_table(HEADER, _cells(network), (2,))


def format_layer_table(network: Network) -> str:
    """The layer table as text: layer, output shape, parameters and how they are counted, and the total."""
    cells = [HEADER, *_cells(network)]
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d}".rstrip() for a, b, c, d in cells]
    return "\n".join(lines) + "\n"
