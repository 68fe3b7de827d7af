"""The layer table (N7): output shapes, parameters and how they are counted."""

from dataclasses import dataclass
from typing import cast

from torch import nn

from project.network.mlp import MLP, HiddenLayer
from project.pages import markdown_table


@dataclass(frozen=True)
class LayerRow:
    """One line of the layer table (N7)."""

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
        n_in, n_out = layer.linear.in_features, layer.linear.out_features
        shape = f"(B, {n_out})"
        rows.append(LayerRow(f"{name} linear", shape, n_in * n_out + n_out, f"{n_in}·{n_out} + {n_out}"))
        dropout = None if isinstance(layer.dropout, nn.Identity) else "dropout"
        parts = {layer.norm_row.title: layer.norm, layer.activation_name: layer.activation, dropout: layer.dropout}
        for part_name, part in parts.items():
            if part_name is not None:
                count = sum(p.numel() for p in part.parameters())
                formula = f"2·{n_out}" if count == 2 * n_out else (str(count) if count else "")
                rows.append(LayerRow(f"{name} {part_name}", shape, count, formula))
    n_in, n_out = mlp.output.in_features, mlp.output.out_features
    rows.append(LayerRow("output linear", f"(B, {n_out})", n_in * n_out + n_out, f"{n_in}·{n_out} + {n_out}"))
    return rows


def layer_table_markdown(mlp: MLP) -> str:
    """The layer table (N7) in Markdown."""
    rows = [(row.layer, row.output_shape, f"{row.parameters:,}", row.formula) for row in layer_table(mlp)]
    rows.append(("total", "", f"{sum(row.parameters for row in layer_table(mlp)):,}", ""))
    return markdown_table(("layer", "output shape", "parameters", "counted as"), rows, (2,))


def format_layer_table(mlp: MLP) -> str:
    """The layer table (N7) as text: layer, output shape, parameters and how they are counted, and the total."""
    rows = layer_table(mlp)
    total = sum(row.parameters for row in rows)
    cells = [("layer", "output shape", "parameters", "counted as")]
    cells += [(row.layer, row.output_shape, f"{row.parameters:,}", row.formula) for row in rows]
    cells += [("total", "", f"{total:,}", "")]
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d}".rstrip() for a, b, c, d in cells]
    return "\n".join(lines) + "\n"
