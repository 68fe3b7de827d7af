"""The layer table (N7): output shapes, parameters and how they are counted."""

from typing import NamedTuple, cast

from torch import nn

from project.network.mlp import MLP, HiddenLayer
from project.pages import markdown_table


class LayerRow(NamedTuple):
    """One line of the layer table."""

    layer: str
    output_shape: str
    parameters: int
    formula: str


def layer_table(mlp: MLP) -> list[LayerRow]:
    """The network's layers in order: name, output shape (B, n) and number of parameters, n_in·n_out + n_out."""
    layers = [cast(HiddenLayer, layer) for layer in mlp.hidden]
    first = layers[0].linear if layers else mlp.output
    rows = [LayerRow("input", f"(B, {first.in_features})", 0, "")]
    for number, layer in enumerate(layers, 1):
        name = f"hidden {number}"
        rows.append(_linear_row(name, layer.linear))
        n_out, shape = layer.linear.out_features, rows[-1].output_shape
        dropout = None if isinstance(layer.dropout, nn.Identity) else "dropout"
        parts = {layer.norm_row.title: layer.norm, layer.activation_name: layer.activation, dropout: layer.dropout}
        for part_name, part in parts.items():
            if part_name is not None:
                count = sum(p.numel() for p in part.parameters())
                formula = f"2·{n_out}" if count == 2 * n_out else (str(count) if count else "")
                rows.append(LayerRow(f"{name} {part_name}", shape, count, formula))
    return [*rows, _linear_row("output", mlp.output)]


def _linear_row(name: str, linear: nn.Linear) -> LayerRow:
    n_in, n_out = linear.in_features, linear.out_features
    return LayerRow(f"{name} linear", f"(B, {n_out})", n_in * n_out + n_out, f"{n_in}·{n_out} + {n_out}")


HEADER = ("layer", "output shape", "parameters", "counted as")


def _cells(mlp: MLP) -> list[tuple[str, str, str, str]]:
    """The table as text, with the total in its last row."""
    rows = layer_table(mlp)
    total = LayerRow("total", "", sum(row.parameters for row in rows), "")
    return [(row.layer, row.output_shape, f"{row.parameters:,}", row.formula) for row in [*rows, total]]


def layer_table_markdown(mlp: MLP) -> str:
    """The layer table in Markdown."""
    return markdown_table(HEADER, _cells(mlp), (2,))


def format_layer_table(mlp: MLP) -> str:
    """The layer table as text: layer, output shape, parameters and how they are counted, and the total."""
    cells = [HEADER, *_cells(mlp)]
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d}".rstrip() for a, b, c, d in cells]
    return "\n".join(lines) + "\n"
