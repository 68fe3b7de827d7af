"""What theory says of a network before training: signal and gradient by layer, depth scales, born-dead networks.

Mean-field theory of wide random networks: with weights of variance σ_w²/n_in and biases of variance σ_b², the
pre-activations of one layer are Gaussian with mean 0 and variance q, and q, correlations and gradients follow
recursions from layer to layer (Poole et al. 2016, arXiv:1606.05340; Schoenholz et al. 2017, arXiv:1611.01232).
Glorot & Bengio 2010 (linear regime) and He et al. 2015 (relu) are special cases. Narrow networks scatter about these
predictions.

The Gaussian integrals are taken by the midpoint rule, for whatever activation module the network has. It is as exact
as Gauss–Hermite quadrature for smooth activations, and more exact at relu's kink and for steep, saturated ones.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from project.network.layers import Layer, Network

TRAINABLE_DEPTH_SCALES = 6
"""A network trains only while it is not much deeper than this many ξ_c (Schoenholz et al. 2017, section 5)."""
_FLOOR, _CEILING = 1e-12, 1e12  # a variance that leaves this range is on its way to 0 or to infinity
_STEPS = 500  # layers after which a recursion counts as settled: deeper than any network trained here
_MAX_CHUNK_NUMBERS = 2**24  # numbers in one tensor of the draws: 64 MiB
_CRITICAL = 1e-3  # a slope this close to 1 reaches 1,000 layers, which counts as without end


@dataclass(frozen=True)
class Moments:
    """Averages over pre-activations z ~ N(0, q) of an activation f."""

    mean: float  # E f(z)
    second: float  # E f(z)²
    slope_second: float  # E f'(z)²

    @property
    def variance(self) -> float:
        return max(0.0, self.second - self.mean**2)


@lru_cache(maxsize=4)
def _grid(points: int, limit: float) -> tuple[Tensor, Tensor]:
    """Midpoints over ±limit and the standard normal weights there, summing to 1; the number of points is even."""
    step = 2 * limit / points
    z = (torch.arange(points, dtype=torch.float64) + 0.5) * step - limit  # never exactly on a kink at 0
    weights = torch.exp(-z.square() / 2)
    return z, weights / weights.sum()


def _on_cpu(activation: nn.Module) -> Callable[[Tensor], Tensor]:
    """A float64 copy of an elementwise activation, without gradients of its own parameters."""
    module = copy.deepcopy(activation).to("cpu", torch.float64).requires_grad_(False)
    return cast(Callable[[Tensor], Tensor], module)


def _value_and_slope(f: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """f(x) and f'(x) of an elementwise function."""
    with torch.inference_mode(False), torch.enable_grad():
        x = x.clone().requires_grad_()
        value = f(x)
        (slope,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), slope


def gaussian_moments(activation: nn.Module, variance: float) -> Moments:
    """Averages of an elementwise activation and of its slope over Gaussian pre-activations.

    With weights of variance σ_w²/n_in and biases of variance σ_b², the pre-activations of the next layer have the
    variance σ_w²·E f² + σ_b² (Poole et al. 2016, eq. 3; for relu, σ_w² = 2 keeps it, He et al. 2015, eq. 10). One layer
    back the squared gradient norm grows by χ = σ_w²·E f'² (Schoenholz et al. 2017, section 4).

    Args:
        activation: Any module that works elementwise.
        variance: The variance q that the pre-activations have, ≥ 0.
    """
    z, weights = _grid(4096, 10.0)
    f, slope = _value_and_slope(_on_cpu(activation), z * math.sqrt(variance))
    return Moments(*((weights * v).sum().item() for v in (f, f.square(), slope.square())))


@dataclass(frozen=True)
class LayerPrediction:
    """What theory expects of one hidden layer before training; the counterpart of `probe.LayerProbe`."""

    name: str  # `hidden 1`, …
    pre_activation_sd: float  # √q, after the norm, if any
    activation_mean: float  # E f
    activation_sd: float  # √(E f² − (E f)²)
    gradient_ratio: float  # this layer's pre-activation gradient norm over the last hidden layer's


def variances(layer: Layer) -> tuple[float, float]:
    """σ_w² and σ_b² of a layer as it is: n_in times the mean square of its weights, and that of its biases."""
    weight = layer.weight.detach().double().cpu()
    bias = torch.zeros(1) if layer.bias is None else layer.bias.detach().double().cpu()
    return layer.fan_in * weight.square().mean().item(), bias.square().mean().item()


def predict(network: Network, input_second_moment: float, ignore_norm: bool = False) -> list[LayerPrediction]:
    """Signal and gradient of every hidden layer of a freshly initialized network that is plain.

    Layer norm sets q to 1 and divides the gradient by the same factor: χ = σ_w² E f'² / q', where q' is the variance
    before the norm. Batch norm does so unit by unit, and divides only by what differs between examples:
    χ = E f'² / Var f, which is π/(π − 1) for relu (Yang et al. 2019, "A Mean Field Theory of Batch Normalization",
    arXiv:1902.08129).

    Args:
        network: The network, of which only the size of the weights and biases counts.
        input_second_moment: The mean square that the input features have, as in `probe.Probe`.
        ignore_norm: Whether to leave out the norm layers, for what the network would be without them.

    Returns:
        One prediction per hidden layer, in order.
    """
    layers: list[tuple[float, Moments]] = []  # q and what the activation makes of it
    gains: list[float] = []  # gains[l]: χ from layer l + 1 back to layer l
    second = input_second_moment
    for layer in network.layers()[:-1]:
        over = None if ignore_norm else layer.norm_row.over
        weight_variance, bias_variance = variances(layer)
        q = weight_variance * second + bias_variance
        if layers:
            below = layers[-1][1]
            if over == "examples":
                gain, divisor = below.slope_second, below.variance
            else:
                gain, divisor = weight_variance * below.slope_second, q if over == "units" else 1.0
            gains.append(gain / divisor if divisor > 0 else 0.0)
        if over is not None and q > 0:
            q = 1.0
        layers.append((q, gaussian_moments(cast(nn.Module, layer.activation), q)))
        second = layers[-1][1].second
    return [
        LayerPrediction(
            f"hidden {i + 1}",
            math.sqrt(q),
            moments.mean,
            math.sqrt(moments.variance),
            gradient_ratio=math.sqrt(math.prod(gains[i:])),
        )
        for i, (q, moments) in enumerate(layers)
    ]


@dataclass(frozen=True)
class DepthScale:
    """How deep signals and gradients reach.

    Attributes:
        q_star: Variance that pre-activations settle at; None if they grow without end.
        chi: χ at q_star; below 1 gradients vanish, above 1 they explode, at 1 they keep their size.
        c_star: Correlation that two different inputs settle at; 1 where they become indistinguishable.
        xi_c: Layers in which a correlation's distance from c_star falls by e. None where it never does, and also where
            signals only grow or shrink, as in relu with σ_w² ≠ 2, so that angles stay.
    """

    q_star: float | None
    chi: float
    c_star: float
    xi_c: float | None

    @property
    def trainable_depth(self) -> float | None:
        """`TRAINABLE_DEPTH_SCALES` · ξ_c hidden layers; None without limit."""
        return None if self.xi_c is None else TRAINABLE_DEPTH_SCALES * self.xi_c


def depth_scale(activation: nn.Module, weight_variance: float, bias_variance: float) -> DepthScale:
    """Depth scales of a deep network without norm, all of whose layers have the same activation and variances.

    Args:
        activation: Any module that works elementwise.
        weight_variance: σ_w², which is n_in times the variance of one weight, as `variances` returns it.
        bias_variance: σ_b², which is the variance of one bias.

    Source: Schoenholz et al. 2017, sections 3 and 4. Where q has no fixed point, as for relu with σ_w² ≠ 2, the
    correlation's scale is taken from the map of the normalized correlation, so that growth alone does not count.
    """
    z, weights = _grid(4096, 10.0)
    f = _on_cpu(activation)
    q = 1.0
    for _ in range(_STEPS):
        with torch.no_grad():
            after = weight_variance * (weights * f(z * math.sqrt(q)).square()).sum().item() + bias_variance
        settled = abs(after - q) <= 1e-12 * q
        q = min(max(after, _FLOOR), _CEILING)
        if settled or q in (_FLOOR, _CEILING):
            break
    moments = gaussian_moments(activation, q)
    after = weight_variance * moments.second + bias_variance
    chi = weight_variance * moments.slope_second
    at_one = chi * q / after if after > 0 else 0.0  # slope of the correlation map at correlation 1
    c_star, slope = 1.0, at_one
    if at_one > 1 + _CRITICAL:
        c_star, slope = _correlation_fixed_point(activation, q, weight_variance, bias_variance)
    # ξ = 1/|log slope|: without end for a slope of 1, and 0 for a slope of 0
    rate = abs(math.log(slope)) if slope > 0 else math.inf
    q_star = None if q >= _CEILING else 0.0 if q <= _FLOOR else q
    return DepthScale(q_star, chi, c_star, xi_c=1 / rate if rate > _CRITICAL else None)


def _correlation_fixed_point(
    activation: nn.Module, q: float, weight_variance: float, bias_variance: float
) -> tuple[float, float]:
    """c* below 1, and the slope of the correlation map there (Schoenholz et al. 2017, section 3)."""
    z, weights = _grid(256, 8.0)
    f = _on_cpu(activation)
    both = weights[:, None] * weights
    first = z[:, None] * math.sqrt(q)  # (256, 1)

    def second(c: float) -> Tensor:
        return math.sqrt(q) * (c * z[:, None] + math.sqrt(max(0.0, 1 - c * c)) * z)  # (256, 256)

    with torch.no_grad():
        f_first = f(first)
        length = weight_variance * (weights[:, None] * f_first.square()).sum().item() + bias_variance
        c = 0.5
        for _ in range(_STEPS):
            product = (both * f_first * f(second(c))).sum().item()
            after = min(1.0, (weight_variance * product + bias_variance) / length)
            settled = abs(after - c) < 1e-9
            c = after
            if settled:
                break
    slopes = _value_and_slope(f, first)[1] * _value_and_slope(f, second(c))[1]
    return c, weight_variance * (both * slopes).sum().item() * q / length


def born_dead_bound(widths: Sequence[int]) -> float:
    """Largest probability that a relu network is born dead: 1 − ∏ (1 − 2^−width) over the hidden layers.

    For weights and biases drawn independently and symmetrically about 0, and no norm. A layer dies when all its units
    are silent on every input; of a draw of a unit's weights and its mirror image at most one is silent, so a unit is
    silent with probability at most 1/2, whatever the inputs.

    Args:
        widths: The number of units that each hidden layer has.

    Source: Lu et al. 2019, "Dying ReLU and Initialization", arXiv:1903.06733: for equal widths N and one-dimensional
        input, 1 − (1 − 2^−N)^(L−1), with L − 1 hidden layers.
    """
    return -math.expm1(sum(math.log1p(-(2.0**-width)) for width in widths))


def born_dead_fraction(inputs: Tensor, widths: Sequence[int], num_draws: int = 1000) -> float:
    """Share of random relu networks that are born dead on these inputs, by drawing them.

    A network is born dead when some hidden layer is silent on every example: what lies above is constant, what lies
    below gets no gradient. Weights are Gaussian and biases 0; then their scale makes no difference. The standard error
    is at most 1/(2·√num_draws). It is meant for narrow networks: for wide ones `born_dead_bound` is already about 0.
    The draws are the same each time, and torch's random state stays as it is.

    Args:
        inputs: The normalized examples, (examples, …).
        widths: The number of units that each hidden layer has.
        num_draws: The number of networks that are drawn.

    Source: Lu et al. 2019, "Dying ReLU and Initialization", arXiv:1903.06733.
    """
    generator = torch.Generator().manual_seed(0)
    x = inputs.detach().flatten(1).float().cpu().T  # (n_in, examples)
    sizes = [len(x), *widths]
    largest = max((n_out * max(n_in, x.shape[1]) for n_in, n_out in pairwise(sizes)), default=1)
    chunk = max(1, _MAX_CHUNK_NUMBERS // largest)
    alive = 0
    for start in range(0, num_draws, chunk):
        draws = min(chunk, num_draws - start)
        signal, lives = x, torch.ones(draws, dtype=torch.bool)
        for n_in, n_out in pairwise(sizes):
            weight = torch.randn(draws, n_out, n_in, generator=generator)
            signal = torch.relu(weight @ signal)  # (draws, n_out, examples)
            peak = signal.amax(dim=(1, 2), keepdim=True)
            lives &= peak.flatten() > 0
            signal = signal / peak.clamp_min(torch.finfo(torch.float32).tiny)  # no underflow in deep networks
        alive += int(lives.sum())
    return 1 - alive / num_draws
