"""Mean-field theory against closed forms, independent quadrature, published figures and drawn networks."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from project.diagnosis.measurement.probe import probe
from project.diagnosis.theory import (
    born_dead_bound,
    born_dead_fraction,
    depth_scale,
    gaussian_moments,
    predict,
    variances,
)
from project.network.activations import build_activation
from project.network.layers import Layer
from project.network.mlp import MLP

SMOOTH = ["sigmoid", "tanh", "gelu", "swish", "softplus", "mish"]


@pytest.mark.parametrize("q", [0.01, 1.0, 50.0])
def test_moments_of_relu_in_closed_form(q: float) -> None:
    moments = gaussian_moments(nn.ReLU(), q)
    assert moments.mean == pytest.approx(math.sqrt(q / (2 * math.pi)), rel=1e-5)
    assert moments.second == pytest.approx(q / 2, rel=1e-5)
    assert moments.slope_second == pytest.approx(0.5, rel=1e-9)
    assert moments.variance == pytest.approx(q * (math.pi - 1) / (2 * math.pi), rel=1e-4)


@pytest.mark.parametrize("slope", [0.01, 0.25])
def test_moments_of_leaky_relu_in_closed_form(slope: float) -> None:
    for module in (nn.LeakyReLU(slope), nn.PReLU(init=slope)):
        moments = gaussian_moments(module, 3.0)
        assert moments.second == pytest.approx(3.0 * (1 + slope**2) / 2, rel=1e-5)
        assert moments.slope_second == pytest.approx((1 + slope**2) / 2, rel=1e-5)


@pytest.mark.parametrize("name", SMOOTH)
def test_moments_agree_with_gauss_hermite_quadrature(name: Any) -> None:
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    weights = weights / weights.sum()
    x = torch.tensor(nodes, requires_grad=True)
    f = build_activation(name)(x)
    (slope,) = torch.autograd.grad(f.sum(), x)
    f = f.detach()
    moments = gaussian_moments(build_activation(name), 1.0)
    assert moments.mean == pytest.approx((weights * f.numpy()).sum(), abs=1e-8)
    assert moments.second == pytest.approx((weights * f.numpy() ** 2).sum(), abs=1e-8)
    assert moments.slope_second == pytest.approx((weights * slope.numpy() ** 2).sum(), abs=1e-8)


def test_moments_of_a_steep_tanh_agree_with_adaptive_quadrature() -> None:
    def expect(function: Any) -> float:
        return float(integrate.quad(lambda z: function(30 * z) * stats.norm.pdf(z), -8, 8, points=[-0.1, 0, 0.1])[0])

    moments = gaussian_moments(nn.Tanh(), 900.0)
    assert moments.second == pytest.approx(expect(lambda x: np.tanh(x) ** 2), rel=1e-6)
    assert moments.slope_second == pytest.approx(expect(lambda x: np.cosh(min(abs(x), 300)) ** -4), rel=1e-6)


def test_moments_of_small_signals() -> None:
    # tanh² x = x² − 2x⁴/3 + …, and E z⁴ = 3
    q = 1e-3
    small = gaussian_moments(nn.Tanh(), q)
    assert small.second == pytest.approx(q - 2 * q**2, rel=1e-5)
    assert small.slope_second == pytest.approx(1 - 2 * q, rel=1e-5)
    # a sigmoid passes on at most a quarter of the gradient (N19)
    assert gaussian_moments(nn.Sigmoid(), 0.0).slope_second == pytest.approx(1 / 16)


def test_variances_are_those_of_the_initialization() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(400, 300)
    layer = Layer(name="hidden 1", linear=linear)
    nn.init.kaiming_normal_(linear.weight)
    nn.init.constant_(linear.bias, 0.5)
    assert variances(layer) == (pytest.approx(2, rel=0.02), pytest.approx(0.25))
    nn.init.xavier_uniform_(linear.weight)
    assert variances(layer)[0] == pytest.approx(2 * 400 / 700, rel=0.02)


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "gelu", "selu", "leaky_relu"])
def test_predictions_hold_for_wide_random_networks(activation: Any, norm: Any) -> None:
    ratios = []  # measured over predicted: (seeds, layers, quantities)
    for seed in range(4):
        torch.manual_seed(seed)
        mlp = MLP(300, 10, depth=5, width=[500, 400, 500, 400, 500], activation=activation, norm=norm)
        for block in mlp.hidden:
            nn.init.normal_(block.linear.bias, std=0.3)
        # pixels of equal variance, so that all inputs have about the same length, as the theory takes for granted
        x, y = torch.randn(128, 300), torch.randint(10, (128,))
        measured = probe(mlp, x, y, F.cross_entropy, with_effective_rank=False)
        predicted = predict(mlp, measured.input_second_moment)
        assert [layer.name for layer in predicted] == [layer.name for layer in measured.hidden]
        last = measured.hidden[-1].pre_activation_gradient_norm
        seen = [(p.pre_activation_sd, p.activation_sd, p.pre_activation_gradient_norm / last) for p in measured.hidden]
        expected = [(p.pre_activation_sd, p.activation_sd, p.gradient_ratio) for p in predicted]
        ratios.append(np.array(seen) / np.array(expected))
    geometric_mean = np.exp(np.log(ratios).mean(axis=0))
    assert geometric_mean == pytest.approx(np.ones((5, 3)), abs=0.1)


def test_norms_have_their_known_gradient_gains() -> None:
    torch.manual_seed(0)
    batch = predict(MLP(50, 10, depth=2, width=100, norm="batch"), 1.0)
    assert batch[0].gradient_ratio == pytest.approx(math.sqrt(math.pi / (math.pi - 1)), rel=1e-3)  # Yang et al. 2019
    layer = predict(MLP(50, 10, depth=2, width=100, norm="layer"), 1.0)
    assert layer[0].gradient_ratio == pytest.approx(1.0, rel=1e-3)
    sigmoid, plain = (MLP(50, 10, depth=9, width=100, norm=norm, activation="sigmoid") for norm in ("batch", "none"))
    plain.load_state_dict(sigmoid.state_dict(), strict=False)
    assert predict(sigmoid, 1.0)[0].gradient_ratio > 0.5
    assert predict(sigmoid, 1.0, ignore_norm=True) == predict(plain, 1.0)


def test_special_cases_of_depth() -> None:
    torch.manual_seed(0)
    linear = predict(MLP(200, 10, depth=8, width=200, activation="identity", init="orthogonal", norm="none"), 1.0)
    assert linear[0].gradient_ratio == pytest.approx(1.0, rel=1e-5)  # Saxe et al. 2013
    assert linear[-1].pre_activation_sd == pytest.approx(1.0, rel=1e-5)
    xavier = predict(MLP(300, 10, depth=8, width=300, init="xavier_normal", norm="none"), 1.0)
    assert xavier[-1].pre_activation_sd / xavier[0].pre_activation_sd == pytest.approx(2**-3.5, rel=0.03)
    assert xavier[0].gradient_ratio == pytest.approx(2**-3.5, rel=0.03)
    zeros = predict(MLP(20, 10, depth=3, width=10, init="zeros", norm="none"), 1.0)
    assert [layer.pre_activation_sd for layer in zeros] == [0, 0, 0]
    assert predict(MLP(20, 10, depth=0, norm="none"), 1.0) == []


@pytest.mark.parametrize(
    ("activation", "weight_variance", "q_star", "chi", "xi_c"),
    [
        (nn.ReLU(), 2.0, 1.0, 1.0, None),  # He et al. 2015: every variance is kept
        (nn.ReLU(), 1.0, 0.0, 0.5, None),  # no fixed point of q but 0, and correlations as before
        (nn.ReLU(), 4.0, None, 2.0, None),
        (nn.Tanh(), 0.5, 0.0, 0.5, None),  # at q* = 0 tanh is linear and only shrinks its signals: angles stay
        (nn.ReLU(), 0.0, 0.0, 0.0, 0.0),
    ],
)
def test_depth_scale_where_it_is_known(
    activation: nn.Module, weight_variance: float, q_star: float | None, chi: float, xi_c: float | None
) -> None:
    scale = depth_scale(activation, weight_variance, 0.0)
    assert (scale.c_star, scale.xi_c, scale.trainable_depth) == (1.0, xi_c, xi_c)
    assert scale.q_star == pytest.approx(q_star, rel=1e-3) if q_star else scale.q_star == q_star
    assert scale.chi == pytest.approx(chi, rel=1e-6)


def test_depth_scale_of_bounded_activations() -> None:
    sigmoid = depth_scale(nn.Sigmoid(), 1.0, 0.0)
    assert sigmoid.c_star == 1
    assert sigmoid.xi_c == pytest.approx(-1 / math.log(sigmoid.chi), rel=1e-6)
    assert sigmoid.trainable_depth == 6 * sigmoid.xi_c
    edge = depth_scale(nn.Tanh(), 1.0, 0.0)
    assert (edge.c_star, edge.xi_c) == (1.0, None)
    selu = depth_scale(nn.SELU(), 1.0, 0.0)  # Klambauer et al. 2017: variance 1 is the fixed point
    assert selu.q_star == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize(("weight_variance", "bias_variance"), [(3.0, 0.05), (0.9, 0.1), (4.0, 0.0), (1.5, 0.3)])
def test_depth_scale_of_tanh_agrees_with_recursions_by_gauss_hermite(
    weight_variance: float, bias_variance: float
) -> None:
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()

    def next_length(q: float) -> float:
        return weight_variance * float((weights * np.tanh(math.sqrt(q) * nodes) ** 2).sum()) + bias_variance

    q = 1.0
    for _ in range(2000):
        q = next_length(q)

    def next_correlation(c: float) -> float:
        first = math.sqrt(q) * nodes[:, None]
        second = math.sqrt(q) * (c * nodes[:, None] + math.sqrt(1 - c * c) * nodes)
        mean = (weights[:, None] * weights * np.tanh(first) * np.tanh(second)).sum()
        return (weight_variance * float(mean) + bias_variance) / q

    c = 0.3
    for _ in range(2000):
        c = min(next_correlation(c), 1 - 1e-7)
    scale = depth_scale(nn.Tanh(), weight_variance, bias_variance)
    assert scale.q_star == pytest.approx(q, rel=1e-6)
    assert scale.c_star == pytest.approx(c, abs=1e-4)
    if c < 0.99:
        step = 1e-4
        c_slope = (next_correlation(c + step) - next_correlation(c - step)) / (2 * step)
        assert scale.xi_c == pytest.approx(-1 / math.log(c_slope), rel=1e-3)
    else:
        assert scale.xi_c == pytest.approx(-1 / math.log(scale.chi), rel=1e-6)


def test_born_dead_bound_by_hand() -> None:
    assert born_dead_bound([3] * 9) == pytest.approx(1 - (1 - 2**-3) ** 9)  # Lu et al. 2019, ten layers
    assert born_dead_bound([2, 3]) == pytest.approx(1 - 0.75 * 0.875)
    assert born_dead_bound([]) == 0
    assert born_dead_bound([256] * 20) == pytest.approx(20 * 2.0**-256, rel=1e-9)


def test_the_bound_is_exact_for_one_example() -> None:
    one = torch.ones(1, 5)
    for widths in ([1] * 3, [2] * 4, [3] * 10, [2, 4, 1]):
        expected = born_dead_bound(widths)
        error = math.sqrt(expected * (1 - expected) / 4000)
        assert born_dead_fraction(one, widths, 4000) == pytest.approx(expected, abs=4 * error)


def test_born_dead_fractions_of_lu_et_al() -> None:
    """A ten-layer network of width 10, 5 and 3 is born dead in less than 1, more than 10 and about 60 % of draws."""
    x = torch.linspace(-math.sqrt(3), math.sqrt(3), 50)[:, None]
    assert born_dead_fraction(x, [10] * 9, 3000) < 0.01
    assert 0.1 < born_dead_fraction(x, [5] * 9, 3000) < born_dead_bound([5] * 9)
    assert 0.52 < born_dead_fraction(x, [3] * 9, 3000) < 0.64


def test_born_dead_fraction_agrees_with_networks_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    x, widths, dead = torch.randn(32, 6), [2] * 6, 0
    for _ in range(400):
        mlp = MLP(6, 2, depth=6, width=widths, init="kaiming_uniform", norm="none", dropout=0.0)
        h = x
        dead += not all(bool(((h := block(h)) > 0).any()) for block in mlp.hidden)
    fraction = born_dead_fraction(x, widths, 4000)
    assert dead / 400 == pytest.approx(fraction, abs=4 * math.sqrt(0.25 / 400))
    monkeypatch.setattr("project.diagnosis.theory._MAX_CHUNK_NUMBERS", 1000)  # many chunks, the same draws' law
    assert born_dead_fraction(x, widths, 4000) == pytest.approx(fraction, abs=0.05)


def test_born_dead_fraction_repeats_and_leaves_the_random_state_alone() -> None:
    x = torch.randn(8, 4)
    before = torch.get_rng_state()
    assert born_dead_fraction(x, [2, 2], 100) == born_dead_fraction(x, [2, 2], 100)
    assert torch.equal(before, torch.get_rng_state())
    assert born_dead_fraction(x, [], 10) == 0
