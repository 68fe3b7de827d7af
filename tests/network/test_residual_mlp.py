"""Residual connections against the sum written out by hand, and what they are for: signals that reach any depth."""

import math
from dataclasses import asdict

import pytest
import torch
from torch import Tensor, nn

from project.errors import InputError
from project.network.layers import layer_table, recorded_signals
from project.network.mlp import MLP
from project.network.networks import NETWORKS
from project.network.residual_mlp import ResidualMLP
from project.task import DataSpec
from project.training.settings import NETWORK_SETTINGS, ModelSettings


def gradient_ratio(network: MLP) -> float:
    """The first hidden layer's weight gradient over the last one's."""
    x = torch.randn(64, 20)
    nn.functional.cross_entropy(network(x), torch.arange(64) % 3).backward()
    norms = [layer.weight.grad.norm().item() for layer in network.layers()[:-1] if layer.weight.grad is not None]
    return norms[0] / norms[-1]


def test_forward_equals_the_sum_written_out() -> None:
    torch.manual_seed(0)
    network = ResidualMLP(6, 3, depth=3, width=5, activation="tanh", norm="layer", dropout=0.3, init_bias=0.2).eval()
    first, second, third, output = (layer.linear for layer in network.layers())

    def normed(s: Tensor) -> Tensor:
        return (s - s.mean(1, keepdim=True)) / (s.var(1, keepdim=True, correction=0) + 1e-5).sqrt()

    x = torch.randn(7, 2, 3)
    s = x.flatten(1) @ first.weight.T + first.bias
    s = s + normed(s).tanh() @ second.weight.T + second.bias
    s = s + normed(s).tanh() @ third.weight.T + third.bias
    torch.testing.assert_close(network(x), normed(s).tanh() @ output.weight.T + output.bias)
    torch.testing.assert_close(network.representation(x), normed(s).tanh())


def test_it_has_the_parameters_of_an_mlp_and_its_first_weights_but_for_the_blocks_scale() -> None:
    torch.manual_seed(0)
    plain = MLP(6, 3, depth=5, width=4)
    torch.manual_seed(0)
    residual = ResidualMLP(6, 3, depth=5, width=4)
    names = [name for name, _ in plain.named_parameters()]
    assert [name for name, _ in residual.named_parameters()] == names
    for number, (ours, theirs) in enumerate(zip(residual.layers(), plain.layers(), strict=True)):
        torch.testing.assert_close(ours.weight * (2.0 if 0 < number < 5 else 1.0), theirs.weight)


@pytest.mark.parametrize("depth", [0, 1])
def test_without_a_block_it_is_an_mlp(depth: int) -> None:
    torch.manual_seed(0)
    plain = MLP(6, 3, depth=depth, width=4, dropout=0.0)
    torch.manual_seed(0)
    residual = ResidualMLP(6, 3, depth=depth, width=4, dropout=0.0)
    x = torch.randn(9, 6)
    assert torch.equal(plain(x), residual(x))


def test_blocks_of_zeros_pass_signals_and_gradients_on_unchanged() -> None:
    """He et al. 2016, equation 5: with the identity as the shortcut a gradient arrives as it left."""
    torch.manual_seed(0)
    network = ResidualMLP(6, 3, depth=40, width=8, norm="none", activation="sigmoid")
    with torch.no_grad():
        for layer in network.layers()[1:-1]:
            layer.weight.zero_()
    with recorded_signals(network) as signals:
        logits = network.forward(torch.randn(5, 6))
    assert torch.equal(signals[0][0], signals[-1][0])
    first, last = torch.autograd.grad(logits.square().sum(), [signals[0][0], signals[-1][0]])
    assert torch.equal(first, last)


def test_the_sums_variance_stays_within_e_at_any_depth() -> None:
    """Hayou et al. 2021: relu without norm multiplies the variance by at most (1 + 1/blocks)^blocks < e."""
    torch.manual_seed(0)
    network = ResidualMLP(400, 3, depth=61, width=400, norm="none", dropout=0.0)
    with recorded_signals(network) as signals, torch.no_grad():
        network.forward(torch.randn(200, 400))
    moments = [z.square().mean().item() for z, _ in signals]
    assert moments[0] < moments[-1] < 1.2 * math.e * moments[0]


def test_gradients_reach_the_first_of_forty_sigmoid_layers() -> None:
    torch.manual_seed(0)
    settings = {"depth": 40, "width": 32, "activation": "sigmoid", "norm": "none", "dropout": 0.0}
    assert gradient_ratio(MLP(20, 3, **settings)) < 1e-6
    assert gradient_ratio(ResidualMLP(20, 3, **settings)) > 0.1


def test_what_it_shows_of_its_layers() -> None:
    network = ResidualMLP(6, 3, depth=3, width=4, dropout=0.1)
    assert [layer.skips for layer in network.layers()] == [False, True, True, False]
    assert not network.is_plain
    assert MLP(6, 3, depth=3, width=4).is_plain
    rows = layer_table(network)
    assert sum(row.parameters for row in rows) == sum(p.numel() for p in network.parameters())
    assert [row.layer for row in rows if "sum" in row.layer] == [
        "hidden 2 sum with the layers before",
        "hidden 3 sum with the layers before",
    ]


def test_layers_of_different_widths_are_refused() -> None:
    for width in ([4, 4, 5], [9, 8]):
        with pytest.raises(InputError, match=r"model\.width"):
            ModelSettings(network="residual_mlp", depth=len(width), width=width)
    ModelSettings(network="residual_mlp", depth=3, width=[4, 4, 4])


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_row_makes_its_network(name: str) -> None:
    spec = DataSpec(4, 5, 3, "multiclass", ("a", "b", "c"))
    described = asdict(ModelSettings(network=name, depth=3, width=7, init_bias=0.25))
    network = NETWORKS[name].build(spec, {setting: described[setting] for setting in NETWORK_SETTINGS})
    *hidden, output = network.layers()
    assert [layer.name for layer in (*hidden, output)] == ["hidden 1", "hidden 2", "hidden 3", "output"]
    assert all((layer.bias == 0.25).all() for layer in hidden if layer.bias is not None)
    x = torch.randn(6, 4, 5)
    with recorded_signals(network.eval()) as signals:
        logits = network.forward(x)
    assert torch.equal(logits, network(x))
    # (examples, units), or (examples, channels, places …)
    assert [a.shape[:2] for _, a in signals] == [(6, layer.num_units) for layer in hidden]
    assert torch.equal(signals[-1][1].flatten(1), network.representation(x))
    assert torch.equal(output.linear(network.representation(x)), logits)
