"""What a network looks like inside: signals, gradients, saturated and dead units, layer by layer.

`probe(network, inputs, targets, loss_fn)` runs one forward and one backward pass and returns plain numbers. It leaves
the network as it found it. `project.diagnosis.theory` predicts the same numbers, and `project.diagnosis.judgement`
turns both into findings.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from project.diagnosis.measurement.quantities import DIAGNOSTICS
from project.network.layers import Layer, Network, recorded_signals
from project.settings import finite

PERCENTILES = (5, 25, 50, 75, 95)
"""Which percentiles of pre-activations and activations a probe reports."""
_OWN = "own "
PERCENTILE_VALUES = 8192
"""Percentiles are taken from this many values, or up to twice as many: sorting all of them would cost more than the
forward and the backward pass together."""


@dataclass(frozen=True, kw_only=True)
class LayerProbe:
    """One layer's numbers on the probe examples.

    Means and standard deviations are over examples and units; norms of matrices are Frobenius norms. For the output
    layer the pre-activation and the activation are both the logits, and no unit counts as saturated, dead or identical.
    The pre-activation gradient norm is the root mean square over examples of the norm of one example's loss gradient
    with respect to its pre-activations. It does not depend on the number of examples, nor, in a wide network, on the
    layer's width, which makes it comparable between layers.
    """

    name: str  # `hidden 1`, …, or `output`
    n_in: int
    n_out: int
    pre_activation_mean: float  # of what enters the activation (after the norm, if any)
    pre_activation_sd: float
    pre_activation_percentiles: list[float]  # at `PERCENTILES`
    activation_mean: float  # of what leaves the activation
    activation_sd: float
    activation_percentiles: list[float]
    saturated_fraction: float = 0.0  # this share and the next two are those of the functions with their names
    dead_fraction: float = 0.0
    identical_unit_fraction: float = 0.0
    weight_norm: float
    weight_gradient_norm: float  # of the loss's gradient with respect to the weight matrix
    bias_gradient_norm: float
    pre_activation_gradient_norm: float
    effective_rank: float | None = None  # of the activations; None where the probe did not compute it
    num_places: int = 1  # where each unit has a value: more than one in a layer of channels
    own: dict[str, float] = field(default_factory=dict)  # of a hidden layer, what `DIAGNOSTICS` names

    @property
    def num_values(self) -> int:
        """Numbers with which the layer describes one example."""
        return self.n_out * self.num_places


@dataclass(frozen=True)
class Probe:
    """A whole network's numbers on one fixed batch."""

    loss: float
    num_examples: int
    input_second_moment: float  # mean square of the input features, where the theory starts
    hidden: list[LayerProbe]  # in order; empty for softmax (logistic, linear) regression
    output: LayerProbe

    @property
    def layers(self) -> list[LayerProbe]:
        """All layers in order, the output layer last."""
        return [*self.hidden, self.output]

    @property
    def gradient_ratio(self) -> float | None:
        """First hidden layer's pre-activation gradient norm over the last one's.

        Below 1 gradients shrink on their way back, above 1 they grow. None with fewer than two hidden layers, or
        where the last hidden layer gets no gradient or one that is not finite.
        """
        if len(self.hidden) < 2:
            return None
        first, last = (self.hidden[i].pre_activation_gradient_norm for i in (0, -1))
        return first / last if last > 0 and math.isfinite(first) and math.isfinite(last) else None

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and None, fit for JSON: a number that is not finite becomes None."""
        return cast(dict[str, Any], finite(asdict(self) | {"gradient_ratio": self.gradient_ratio}))


def probe(
    network: Network,
    inputs: Tensor,
    targets: Tensor,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    *,
    with_effective_rank: bool = True,
) -> Probe:
    """Look inside a network with one forward and one backward pass, and leave it as it was.

    Dropout is off, and batch norm uses the statistics of the probe examples, as in training: before training its
    running ones are still 0 and 1 and say nothing, and only so do gradients flow as they do in training. Parameters,
    their `.grad`, buffers, training flags and random state are left untouched, hooks live only as long as the call, and
    the surrounding autocast, no_grad or inference mode makes no difference. The host waits for the device once, and
    with effective ranks once more per layer, since their eigenvalues are checked.

    Args:
        network: The network, which must not be wrapped in DDP.
        inputs: The normalized examples, (examples, …), on the network's device. They come from the validation split
            and are always the same, so that probes can be compared.
        targets: What `loss_fn` expects beside the logits, (examples, …).
        loss_fn: The function from (logits, targets) to a scalar, the mean over examples.
        with_effective_rank: Whether to compute effective ranks, by far the most expensive number for wide layers.

    Raises:
        ValueError: With fewer than two examples, where standard deviations and batch norm are not defined.
    """
    if len(inputs) < 2:
        raise ValueError(f"a probe needs at least 2 examples, but got {len(inputs)}")
    layers = network.layers()
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(inputs.device.type, enabled=False):
        # tensors from inference mode cannot take part in a backward pass
        x, y = (tensor.clone() if tensor.is_inference() else tensor.detach() for tensor in (inputs, targets))
        with _evaluating_by_batch(network):
            with recorded_signals(network) as signals:
                logits = network.forward(x)
            signals.append((logits, logits))
            loss = loss_fn(logits, y)
            biases = [layer.bias for layer in layers if layer.bias is not None]
            sources = [*(z for z, _ in signals), *(layer.weight for layer in layers), *biases]
            gradients = torch.autograd.grad(loss, sources)

        num = len(layers)
        of_biases = iter(gradients[2 * num :])
        measured: list[dict[str, Tensor]] = [{"loss": loss, "input_second_moment": x.float().square().mean()}]
        with torch.no_grad():
            for i, (layer, signal) in enumerate(zip(layers, signals, strict=True)):
                z, a = map(by_unit, signal)
                numbers = _signal_numbers("pre_activation", z) | _signal_numbers("activation", a)
                if i < num - 1:
                    numbers["saturated_fraction"] = saturated_fraction(z, layer.activation_row.saturation)
                    numbers["dead_fraction"] = dead_unit_fraction(a)
                    numbers["identical_unit_fraction"] = _identical_units(layer, layers[i + 1])
                    numbers |= {_OWN + name: quantity(z, a).detach() for name, quantity in DIAGNOSTICS.items()}
                numbers["weight_norm"] = norm(layer.weight)
                numbers["weight_gradient_norm"] = norm(gradients[num + i])
                numbers["bias_gradient_norm"] = z.new_zeros(()) if layer.bias is None else norm(next(of_biases))
                # the loss is a mean: one example's own gradient is `examples` times its row
                numbers["pre_activation_gradient_norm"] = norm(gradients[i]) * math.sqrt(len(x))
                if with_effective_rank:
                    numbers["effective_rank"] = effective_rank(a)
                measured.append(numbers)
    whole, *of_layers = _to_host(measured)
    own = [{name: numbers.pop(_OWN + name) for name in DIAGNOSTICS if _OWN + name in numbers} for numbers in of_layers]
    *hidden, output = (
        LayerProbe(
            name=layer.name,
            n_in=layer.fan_in,
            n_out=layer.num_units,
            num_places=z.numel() // (len(x) * layer.num_units),
            own=extra,
            **numbers,
        )
        for layer, numbers, extra, (z, _) in zip(layers, of_layers, own, signals, strict=True)
    )
    return Probe(**whole, num_examples=len(inputs), hidden=hidden, output=output)


def by_unit(signal: Tensor) -> Tensor:
    """A layer's signal as (examples, units): every place of a channel counts as an example of one unit."""
    return signal.movedim(1, -1).flatten(0, -2)


def _identical_units(layer: Layer, after: Layer) -> Tensor:
    """`identical_unit_fraction` of a layer, given the next one.

    It is 0 where other layers add to the units or take from them: then these weights alone do not decide.
    """
    if layer.skips or after.skips or after.fan_in % layer.num_units:
        return layer.weight.new_zeros(())
    # for each unit its weights in all units of the next layer, which for channels are those of all places
    outgoing = after.weight.reshape(after.num_units, layer.num_units, -1).movedim(1, 2).flatten(0, 1)
    return identical_unit_fraction(layer.weight.flatten(1), outgoing)


def _signal_numbers(name: str, values: Tensor) -> dict[str, Tensor]:
    x = values.float()
    mean = x.mean()
    sd = norm(x - mean) / math.sqrt(x.numel() - 1)  # torch.std_mean takes several times as long
    return {f"{name}_mean": mean, f"{name}_sd": sd, f"{name}_percentiles": percentiles(values)}


def _to_host(measured: list[dict[str, Tensor]]) -> list[dict[str, Any]]:
    """The same dicts with numbers and lists for tensors; the host waits for the device once for all of them."""
    numbers = iter(torch.cat([t.reshape(-1).float() for group in measured for t in group.values()]).tolist())
    return [
        {name: [next(numbers) for _ in range(len(t))] if t.dim() else next(numbers) for name, t in group.items()}
        for group in measured
    ]


@contextmanager
def _evaluating_by_batch(network: nn.Module) -> Iterator[None]:
    """Evaluation mode, but with batch norm on the batch's own statistics; every flag is put back."""
    training = [(module, module.training) for module in network.modules()]
    tracking = [(m, m.track_running_stats) for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    try:
        network.eval()
        for batch_norm, _ in tracking:
            batch_norm.training = True
            batch_norm.track_running_stats = False  # so that the running statistics are neither used nor updated
        yield
    finally:
        for module, flag in training:
            module.training = flag
        for batch_norm, flag in tracking:
            batch_norm.track_running_stats = flag


def saturated_fraction(pre_activations: Tensor, bounds: tuple[float, float] | None) -> Tensor:
    """Share of pre-activations outside the bounds of their activation, a scalar in [0, 1].

    Args:
        pre_activations: What enters one layer's activation, (examples, units).
        bounds: The lower and the upper bound that `Activation.saturation` names; None where it does not saturate.
    """
    if bounds is None:
        return pre_activations.new_zeros(())
    low, high = bounds
    return ((pre_activations < low) | (pre_activations > high)).float().mean()


def dead_unit_fraction(activations: Tensor) -> Tensor:
    """Share of hidden units that are silent, which is exactly 0, on every example, a scalar in [0, 1].

    Args:
        activations: What leaves one layer's activation, (examples, units), for at least one example.

    Source: Lu et al. 2019, "Dying ReLU and Initialization", arXiv:1903.06733.
    """
    return (activations.abs().amax(dim=0) == 0).float().mean()


def identical_unit_fraction(incoming: Tensor, outgoing: Tensor) -> Tensor:
    """Share of a layer's units with the same incoming and outgoing weights as its first unit, a scalar in [1/units, 1].

    At 1 all units compute the same, get the same gradient and stay equal forever: the layer works like a single unit.

    Args:
        incoming: The weight that leads into the layer, (units, inputs).
        outgoing: The weight that leads out of it, (next layer's units, units).

    Source: Goodfellow, Bengio & Courville 2016, "Deep Learning", section 8.4, on breaking symmetry.
    """
    same_in = (incoming == incoming[0]).all(dim=1)
    same_out = (outgoing == outgoing[:, :1]).all(dim=0)
    return (same_in & same_out).float().mean()


def effective_rank(activations: Tensor) -> Tensor:
    """How many directions a layer's representation really uses: exp of the entropy of its singular values.

    The singular values σ are divided by their sum, p = σ/Σσ; the result is exp(−Σ p log p). The matrix is not centred:
    when all examples are mapped to nearly the same vector, it falls to 1.

    Args:
        activations: What leaves one layer's activation, (examples, units).

    Returns:
        Scalar in [1, min(examples, units)]; 0 for a matrix of zeros; NaN where an activation is not finite.

    Source: Roy & Vetterli 2007, "The effective rank: a measure of effective dimensionality", definition 1.
    """
    examples, units = activations.shape
    # The Gram matrix squares the condition number: in float32 its noise would look like hundreds of extra directions.
    matrix = (activations.cpu() if activations.device.type == "mps" else activations).double()
    scale = matrix.abs().amax()
    finite = torch.isfinite(scale)
    matrix = torch.where(finite, matrix / scale.clamp_min(1e-300), 0.0)
    gram = matrix @ matrix.T if examples < units else matrix.T @ matrix
    values = torch.linalg.eigvalsh(gram)
    # eigenvalues below the rounding error of the largest are noise around 0
    noise = values[-1] * torch.finfo(values.dtype).eps * len(values)
    sigma = torch.where(values > noise, values, 0.0).sqrt()
    p = sigma / sigma.sum().clamp_min(1e-300)
    rank: Tensor = torch.special.entr(p).sum().exp() * (scale > 0)
    result: Tensor = torch.where(finite, rank, torch.full_like(rank, torch.nan))
    return result.to(activations.device, torch.float32)


def percentiles(values: Tensor) -> Tensor:
    """`PERCENTILES` of a tensor of any shape, from about `PERCENTILE_VALUES` values spread evenly over it; (5,)."""
    flat = values.reshape(-1)
    stride = max(1, flat.numel() // PERCENTILE_VALUES)
    width = values.shape[-1] if values.dim() else 1
    while math.gcd(stride, width) > 1:  # else the same few units would be taken from every example
        stride += 1
    points = torch.tensor(PERCENTILES, dtype=torch.float32, device=flat.device) / 100
    return torch.quantile(flat[::stride].float(), points)


def norm(tensor: Tensor) -> Tensor:
    """Frobenius norm as a float32 scalar, also where the squares alone would underflow or overflow."""
    values = tensor.detach().float()
    scale = values.abs().amax().clamp_min(torch.finfo(torch.float32).tiny)
    length: Tensor = torch.linalg.vector_norm(values / scale) * scale
    return length


def update_to_weight_ratio(before: Sequence[Tensor], after: Sequence[Tensor]) -> list[float | None]:
    """Size of one update relative to the weights that it changed: ‖after − before‖ / ‖before‖, one number per tensor.

    About 1e-3, within a factor of 10, is healthy. It is None for weights that were all zero.

    Args:
        before: Copies of the weights as they were before the optimizer's step, of any shapes.
        after: The weights as they are after it, in the same order.

    Source: Hinton 2010, "A Practical Guide to Training Restricted Boltzmann Machines", section 7.
    """
    pairs = [torch.stack([norm(b - a), norm(b)]) for b, a in zip(before, after, strict=True)]
    return [change / size if size > 0 else None for change, size in torch.stack(pairs).tolist()]
