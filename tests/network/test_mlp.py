"""The network against hand-built nn.Sequentials, closed forms and the course notes' sizes (N5 to N10)."""

import itertools
import math
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from project.errors import InputError
from project.network.activations import ACTIVATIONS
from project.network.layers import layer_table
from project.network.mlp import MLP
from project.network.norms import NORMS

PLAIN: dict[str, Any] = {"norm": "none", "dropout": 0.0}
NORM_MODULES: dict[str, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


def sequential(in_features: int, out_features: int, widths: Sequence[int], norm: str, dropout: float) -> nn.Sequential:
    """The same relu network, written out layer by layer."""
    layers: list[nn.Module] = [nn.Flatten()]
    n_in = in_features
    for n_out in widths:
        layers.append(nn.Linear(n_in, n_out))
        if norm != "none":
            layers.append(NORM_MODULES[norm](n_out))
        layers += [nn.ReLU(), nn.Dropout(dropout)]
        n_in = n_out
    return nn.Sequential(*layers, nn.Linear(n_in, out_features))


def test_every_norm_is_tested_here() -> None:
    assert {"none", *NORM_MODULES} == set(NORMS), "each row needs the module that is meant in NORM_MODULES"


@pytest.mark.parametrize("norm", ["none", *NORM_MODULES])
@pytest.mark.parametrize("widths", [[], [5], [7, 5, 6]], ids=str)
def test_forward_equals_a_hand_built_network(norm: str, widths: list[int]) -> None:
    torch.manual_seed(0)
    mlp = MLP(12, 3, depth=len(widths), width=widths, norm=norm, dropout=0.4, init_bias=0.1)
    other = sequential(12, 3, widths, norm, 0.4)
    ours, theirs = list(mlp.state_dict().values()), other.state_dict()
    assert [value.shape for value in ours] == [value.shape for value in theirs.values()]
    other.load_state_dict(dict(zip(theirs, ours, strict=True)))
    x = torch.randn(16, 3, 4)
    # twice while training, so that the running statistics of a batch norm are not those at the start
    for _ in range(2):
        torch.manual_seed(1)
        expected = other(x)
        torch.manual_seed(1)
        torch.testing.assert_close(mlp(x), expected)
    mlp.eval(), other.eval()
    torch.testing.assert_close(mlp(x), other(x))
    assert torch.equal(mlp(x), mlp(x))  # N24: no dropout in evaluation


def test_dropout_is_active_in_training_alone() -> None:
    torch.manual_seed(0)
    mlp = MLP(4, 2, depth=1, width=64, norm="none", dropout=0.5)
    x = torch.randn(8, 4)
    assert not torch.equal(mlp(x), mlp(x))
    hidden = MLP(4, 2, depth=1, width=4000, norm="none", dropout=0.25, init_bias=10.0)  # every unit is on
    share = (hidden.representation(x) == 0).float().mean().item()
    assert share == pytest.approx(0.25, abs=0.01)


def test_depth_0_is_softmax_regression() -> None:
    torch.manual_seed(0)
    mlp = MLP(6, 4, depth=0)
    x = torch.randn(5, 2, 3)
    weight, bias = mlp.output.weight, mlp.output.bias
    assert [p.shape for p in mlp.parameters()] == [(4, 6), (4,)]
    torch.testing.assert_close(mlp(x), x.reshape(5, 6) @ weight.T + bias)
    assert torch.equal(mlp.representation(x), x.reshape(5, 6))


def test_a_deep_linear_network_is_one_matrix() -> None:
    """N6: X θ₁ᵀ θ₂ᵀ … with all biases 0 is X times the product of the matrices."""
    torch.manual_seed(0)
    mlp = MLP(6, 4, depth=5, width=[9, 8, 7, 8, 9], activation="identity", **PLAIN).double()
    product = torch.eye(6, dtype=torch.float64)
    for layer in [*(hidden.linear for hidden in mlp.hidden), mlp.output]:
        product = layer.weight @ product
    x = torch.randn(20, 6, dtype=torch.float64)
    assert mlp.representation(x).shape == (20, 9)
    torch.testing.assert_close(mlp.output(mlp.representation(x)), mlp(x))
    torch.testing.assert_close(mlp(x), x @ product.T)
    assert torch.linalg.matrix_rank(mlp(x)) <= 4


def test_hidden_layers_get_their_activations_init_and_the_output_layer_none() -> None:
    torch.manual_seed(0)
    mlp = MLP(400, 300, width=500, activation="leaky_relu", activation_parameter=0.5, init_bias=0.25)
    first, second = (layer.linear for layer in mlp.hidden)
    assert first.weight.std().item() == pytest.approx(math.sqrt(2 / (1.25 * 400)), rel=0.01)
    assert second.weight.std().item() == pytest.approx(math.sqrt(2 / (1.25 * 500)), rel=0.01)
    assert mlp.output.weight.std().item() == pytest.approx(math.sqrt(1 / 500), rel=0.01)
    assert (first.bias == 0.25).all()
    assert not mlp.output.bias.any()


@pytest.mark.parametrize("depth", [0, 2])
def test_init_and_scale_reach_every_layer(depth: int) -> None:
    def weights(init: str, scale: float = 1.0) -> list[Tensor]:
        torch.manual_seed(0)
        mlp = MLP(20, 3, depth=depth, width=10, init=init, init_scale=scale, **PLAIN)
        return [p for p in mlp.parameters() if p.ndim == 2]

    assert not any(weight.any() for weight in weights("zeros"))
    for plain, scaled in zip(weights("orthogonal"), weights("orthogonal", 0.5), strict=True):
        torch.testing.assert_close(scaled, plain * 0.5)


def test_zeros_lets_only_the_last_bias_learn() -> None:
    """N21."""
    torch.manual_seed(0)
    mlp = MLP(6, 3, depth=2, width=5, init="zeros", **PLAIN)
    nn.functional.cross_entropy(mlp(torch.randn(10, 6)), torch.zeros(10, dtype=torch.long)).backward()
    moved = {name for name, p in mlp.named_parameters() if p.grad.any()}
    assert moved == {"output.bias"}


def test_layer_table_of_the_notes() -> None:
    """N7: 784 → 256 → ReLU → 10."""
    rows = layer_table(MLP(784, 10, depth=1, width=256, **PLAIN))
    assert [(row.layer, row.output_shape, row.parameters, row.formula) for row in rows] == [
        ("input", "(B, 784)", 0, ""),
        ("hidden 1 linear", "(B, 256)", 200_960, "784·256 + 256"),
        ("hidden 1 relu", "(B, 256)", 0, ""),
        ("output linear", "(B, 10)", 2_570, "256·10 + 10"),
    ]
    assert [row.parameters for row in layer_table(MLP(784, 10, depth=0))] == [0, 7_850]  # softmax regression


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm", NORMS)
def test_layer_table_counts_every_parameter(activation: str, norm: str) -> None:
    mlp = MLP(20, 3, depth=2, width=[7, 5], activation=activation, norm=norm, dropout=0.2)
    rows = layer_table(mlp)
    assert sum(row.parameters for row in rows) == sum(p.numel() for p in mlp.parameters())
    names = [row.layer for row in rows]
    assert f"hidden 2 {activation}" in names
    assert "hidden 1 dropout" in names
    title = NORMS[norm].title
    assert len(names) == 8 + 2 * (title is not None)
    assert title is None or f"hidden 1 {title}" in names
    assert all(row.formula for row in rows if row.parameters)
    assert next(row.output_shape for row in rows if row.layer == "hidden 2 linear") == "(B, 5)"


WRONG: dict[str, list[Any]] = {
    "in_features": [0],
    "out_features": [0],
    "depth": [-1, -(10**12)],
    "width": [0, -3, [4, 0], [4], [4, 4, 4], []],
    "dropout": [1.0, -0.1, math.nan],
    "init_scale": [0.0, math.nan, math.inf],
    "init_bias": [math.inf],
    "activation_parameter": [0.1],
}


@pytest.mark.parametrize(("name", "value"), [(name, x) for name, values in WRONG.items() for x in values], ids=str)
def test_what_makes_no_network_is_refused(name: str, value: Any) -> None:
    wrong = {"in_features": 6, "out_features": 3, name: value}
    with pytest.raises(InputError, match=name.removesuffix("_features")) as error:
        MLP(**wrong)
    assert error.value.remedy


@pytest.mark.parametrize("name", ["activation", "init", "norm"])
def test_a_name_that_is_in_no_table(name: str) -> None:
    with pytest.raises(KeyError, match="grup"):
        MLP(6, 3, **{name: "grup"})


def test_a_layer_knows_its_rows_and_can_be_pickled() -> None:
    for activation, norm in itertools.product(ACTIVATIONS, NORMS):
        mlp = MLP(3, 2, depth=1, width=4, activation=activation, norm=norm)
        layer = mlp.layers()[0]
        assert layer.activation_row is ACTIVATIONS[activation]
        assert layer.norm_row is NORMS[norm]
        again = pickle.loads(pickle.dumps(mlp))  # noqa: S301 - made here
        x = torch.randn(5, 3)
        assert torch.equal(again.eval()(x), mlp.eval()(x))


@pytest.mark.parametrize("norm", NORMS)
def test_what_a_norm_is_taken_over(norm: str) -> None:
    """Each unit over all examples, or each example over all units, may be larger by any factor."""
    row, x = NORMS[norm], torch.randn(9, 6) * 3 + 1
    module = row.build(nn, 6)
    y = module(x)
    larger = {"examples": x * torch.arange(1, 7), "units": x * torch.arange(1, 10)[:, None]}
    same = {over for over, other in larger.items() if torch.allclose(module(other), y, atol=1e-3)}
    assert same == {row.over} - {None}
    assert (row.title is None) == torch.equal(x, y)


def test_the_tables_and_checks_come_without_torch() -> None:
    """The command line reads names and facts, and refuses wrong ones, before torch is loaded."""
    code = """
import sys
from project.network.activations import ACTIVATIONS, check_activation
from project.network.initializers import INITIALIZERS, init_for_activation
from project.network.optimization.losses import DEFAULT_LOSS, LOSSES, check_loss
from project.network.norms import NORMS
from project.network.optimization.optimizers import OPTIMIZERS, check_optimizer
from project.network.optimization.schedules import SCHEDULES, learning_rate_factor
from project.settings import check_numbers, check_width
from project.training.settings import ModelSettings
for activation in ACTIVATIONS:
    for init in INITIALIZERS:
        for norm in NORMS:
            ModelSettings(activation=activation, init=init, norm=norm)
for task, name in DEFAULT_LOSS.items():
    check_loss(name, task)
for name in OPTIMIZERS:
    check_optimizer(name, 0.1, 0.9, 0.0, 1)
for name in SCHEDULES:
    learning_rate_factor(name, 3, 10)
print(sorted({name.split(".")[0] for name in sys.modules} & {"torch", "pytorch_lightning", "numpy"}))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout == "[]\n"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    widths=st.lists(st.integers(2, 12), max_size=5),
    norm=st.sampled_from(list(NORMS)),
    activation=st.sampled_from(list(ACTIVATIONS)),
    dropout=st.sampled_from([0.0, 0.3]),
    batch=st.integers(2, 9),
)
def test_any_network_is_finite_and_learns_everywhere(
    widths: list[int], norm: str, activation: str, dropout: float, batch: int
) -> None:
    torch.manual_seed(0)
    mlp = MLP(8, 3, depth=len(widths), width=widths, activation=activation, norm=norm, dropout=dropout)
    logits = mlp(torch.randn(batch, 2, 4))
    assert logits.shape == (batch, 3)
    assert logits.isfinite().all()
    logits.square().sum().backward()
    for name, p in mlp.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
    assert [layer.linear.out_features for layer in mlp.hidden] == widths
