"""What a network looks like inside: signals, gradients, saturated and dead units, layer by layer.

`probe(mlp, inputs, targets, loss_fn)` runs one forward and one backward pass and returns plain numbers. It leaves the
network as it found it. `project.diagnosis.theory` predicts the same numbers, and `project.diagnosis.judgement` puts
both into words.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from project.network.mlp import MLP, HiddenLayer

PERCENTILES = (5, 25, 50, 75, 95)
"""Which percentiles of pre-activations and activations a probe reports."""
_PERCENTILE_SAMPLE = 8192  # sorting every value would cost more than the forward and the backward pass together


@dataclass(frozen=True)
class LayerProbe:
    """One layer's numbers on the probe examples; a number that is not defined is None.

    For the output layer the pre-activation and the activation are both the logits, and no unit counts as saturated,
    dead or identical.

    Attributes:
        name: `hidden 1`, …, or `output`.
        n_in: Inputs of the layer.
        n_out: Units of the layer.
        pre_activation_mean: Mean over examples and units of what enters the activation (after the norm, if any).
        pre_activation_sd: Standard deviation over examples and units.
        pre_activation_percentiles: At `PERCENTILES`, from a sample of at most 8,192 values spread evenly.
        activation_mean: Mean over examples and units of what leaves the activation.
        activation_sd: Standard deviation over examples and units.
        activation_percentiles: As for the pre-activations.
        saturated_fraction: Share of (example, unit) pairs that are saturated, see `saturated_fraction`.
        dead_fraction: Share of units that are silent on every example, see `dead_unit_fraction`.
        identical_unit_fraction: Share of units with the same weights in and out as the first, see there.
        weight_norm: Frobenius norm of the weight matrix.
        weight_gradient_norm: Frobenius norm of the loss's gradient with respect to the weight matrix.
        bias_gradient_norm: Euclidean norm of the loss's gradient with respect to the bias.
        pre_activation_gradient_norm: Root mean square over examples of the norm of one example's loss gradient with
            respect to its pre-activations. It does not depend on the number of examples, nor, in a wide network, on
            the layer's width, which makes it comparable between layers.
        effective_rank: Of the activations, see `effective_rank`; None where the probe was not asked for it.
    """

    name: str
    n_in: int
    n_out: int
    pre_activation_mean: float
    pre_activation_sd: float
    pre_activation_percentiles: list[float]
    activation_mean: float
    activation_sd: float
    activation_percentiles: list[float]
    saturated_fraction: float
    dead_fraction: float
    identical_unit_fraction: float
    weight_norm: float
    weight_gradient_norm: float
    bias_gradient_norm: float
    pre_activation_gradient_norm: float
    effective_rank: float | None


@dataclass(frozen=True)
class Probe:
    """A whole network's numbers on one fixed batch.

    Attributes:
        loss: The loss on the probe examples.
        num_examples: How many there were.
        input_second_moment: Mean square of the input features, where the theory starts.
        hidden: The hidden layers in order; empty for softmax (logistic, linear) regression.
        output: The output layer.
    """

    loss: float
    num_examples: int
    input_second_moment: float
    hidden: list[LayerProbe]
    output: LayerProbe

    @property
    def gradient_ratio(self) -> float | None:
        """First hidden layer's pre-activation gradient norm over the last one's.

        Below 1 gradients shrink on their way back, above 1 they grow. None with fewer than two hidden layers, or
        where the last hidden layer gets no gradient or one that is not finite.
        """
        if len(self.hidden) < 2:
            return None
        first = self.hidden[0].pre_activation_gradient_norm
        last = self.hidden[-1].pre_activation_gradient_norm
        return first / last if last > 0 and math.isfinite(first) and math.isfinite(last) else None

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and None, fit for JSON: a number that is not finite becomes None."""
        return cast(dict[str, Any], _finite(asdict(self) | {"gradient_ratio": self.gradient_ratio}))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def probe(
    mlp: MLP,
    inputs: Tensor,
    targets: Tensor,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    *,
    batch_statistics: bool = True,
    with_effective_rank: bool = True,
) -> Probe:
    """Look inside a network with one forward and one backward pass, and leave it as it was.

    Dropout is off. Parameters, their `.grad`, buffers, training flags and random state are left untouched, hooks live
    only as long as the call, and the surrounding autocast, no_grad or inference mode makes no difference. The host
    waits for the device once, and with effective ranks once more per layer, since their eigenvalues are checked.

    With several processes no reduction is needed: the weights are identical, so every rank that probes the same fixed
    batch gets the same numbers, and only rank 0 needs to probe at all.

    Args:
        mlp: The network, not wrapped in DDP.
        inputs: Normalized examples, (examples, …), on the network's device; from the validation split, and always the
            same ones, so that probes can be compared.
        targets: What `loss_fn` expects beside the logits, (examples, …).
        loss_fn: (logits, targets) → scalar, the mean over examples.
        batch_statistics: Whether batch norm uses the probe examples' statistics, as training does, or its running
            ones, as evaluation does. Before training the running ones are still 0 and 1 and say nothing; and only the
            first way do gradients flow as they do in training.
        with_effective_rank: Whether to compute effective ranks, by far the most expensive number for wide layers.

    Raises:
        ValueError: With fewer than two examples, where standard deviations and batch norm are not defined.
    """
    if len(inputs) < 2:
        raise ValueError(f"a probe needs at least 2 examples, but got {len(inputs)}")
    blocks = [cast(HiddenLayer, block) for block in mlp.hidden]
    pre_activations: list[Tensor] = []
    activations: list[Tensor] = []

    def capture(_: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        pre_activations.append(args[0])
        activations.append(output)

    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(inputs.device.type, enabled=False):
        x = inputs.clone() if inputs.is_inference() else inputs.detach()
        y = targets.clone() if targets.is_inference() else targets.detach()
        with _evaluating(mlp, batch_statistics):
            handles = [block.activation.register_forward_hook(capture) for block in blocks]
            try:
                # not mlp(x): a network that was compiled in place would be compiled again, hooks and all
                logits = mlp.forward(x)
            finally:
                for handle in handles:
                    handle.remove()
            loss = loss_fn(logits, y)
            linears = [*(block.linear for block in blocks), mlp.output]
            signals = [*pre_activations, logits]
            parameters = [p for linear in linears for p in (linear.weight, linear.bias)]
            gradients = torch.autograd.grad(loss, [*signals, *parameters])

        num_layers = len(linears)
        layer_gradients = zip(gradients, gradients[num_layers::2], gradients[num_layers + 1 :: 2], strict=False)
        with torch.no_grad():
            measured: list[dict[str, Tensor]] = [{"loss": loss, "input_second_moment": x.float().square().mean()}]
            for i, (z_gradient, weight_gradient, bias_gradient) in enumerate(layer_gradients):
                z, a = signals[i], (activations[i] if i < len(blocks) else logits)
                zero = loss.new_zeros(())
                layer = _signal_numbers("pre_activation", z) | _signal_numbers("activation", a)
                if i < len(blocks):
                    layer["saturated_fraction"] = saturated_fraction(z, blocks[i].activation_row.saturation)
                    layer["dead_fraction"] = dead_unit_fraction(a)
                    layer["identical_unit_fraction"] = identical_unit_fraction(linears[i].weight, linears[i + 1].weight)
                else:
                    layer |= dict.fromkeys(("saturated_fraction", "dead_fraction", "identical_unit_fraction"), zero)
                layer["weight_norm"] = norm(linears[i].weight)
                layer["weight_gradient_norm"] = norm(weight_gradient)
                layer["bias_gradient_norm"] = norm(bias_gradient)
                # the loss is a mean: one example's own gradient is `examples` times its row
                layer["pre_activation_gradient_norm"] = norm(z_gradient) * math.sqrt(len(z))
                if with_effective_rank:
                    layer["effective_rank"] = effective_rank(a)
                measured.append(layer)
    whole, *layers = _to_host(measured)
    names = [*(f"hidden {i}" for i in range(1, num_layers)), "output"]
    probes = [
        LayerProbe(name, linear.in_features, linear.out_features, **{"effective_rank": None} | numbers)
        for name, linear, numbers in zip(names, linears, layers, strict=True)
    ]
    return Probe(**whole, num_examples=len(inputs), hidden=probes[:-1], output=probes[-1])


def _signal_numbers(name: str, values: Tensor) -> dict[str, Tensor]:
    x = values.float()
    mean = x.mean()
    sd = norm(x - mean) / math.sqrt(x.numel() - 1)  # torch.std_mean takes several times as long
    return {f"{name}_mean": mean, f"{name}_sd": sd, f"{name}_percentiles": percentiles(values)}


def _to_host(measured: list[dict[str, Tensor]]) -> list[dict[str, Any]]:
    """The same dicts with numbers and lists for tensors; the host waits for the device once for all of them."""
    numbers = torch.cat([t.reshape(-1).float() for group in measured for t in group.values()]).tolist()
    position, groups = 0, []
    for group in measured:
        values: dict[str, Any] = {}
        for name, tensor in group.items():
            part = numbers[position : position + tensor.numel()]
            values[name] = part if tensor.dim() else part[0]
            position += tensor.numel()
        groups.append(values)
    return groups


@contextmanager
def _evaluating(mlp: nn.Module, batch_statistics: bool) -> Iterator[None]:
    """Evaluation mode, with batch norm on the batch's own statistics if asked; every flag is put back."""
    training = [(module, module.training) for module in mlp.modules()]
    tracking = [(m, m.track_running_stats) for m in mlp.modules() if isinstance(m, nn.BatchNorm1d)]
    try:
        mlp.eval()
        if batch_statistics:
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
    """Share of pre-activations outside the bounds of their activation.

    Args:
        pre_activations: What enters one layer's activation, (examples, units).
        bounds: Lower and upper bound, from `Activation.saturation`; None where it does not saturate.

    Returns:
        Scalar in [0, 1].
    """
    if bounds is None:
        return pre_activations.new_zeros(())
    low, high = bounds
    return ((pre_activations < low) | (pre_activations > high)).float().mean()


def dead_unit_fraction(activations: Tensor, tolerance: float = 0.0) -> Tensor:
    """Share of hidden units that are silent on every example.

    Args:
        activations: One layer's outputs after its non-linearity, (examples, units).
        tolerance: Largest absolute activation that still counts as silent.

    Returns:
        Scalar in [0, 1].

    Raises:
        ValueError: If there are no examples, where silence would hold vacuously.

    Source: Lu et al. 2019, "Dying ReLU and Initialization", arXiv:1903.06733.
    """
    if len(activations) == 0:
        raise ValueError("no examples: every unit would count as silent")
    return (activations.abs().amax(dim=0) <= tolerance).float().mean()


def identical_unit_fraction(incoming: Tensor, outgoing: Tensor) -> Tensor:
    """Share of a layer's units that have the same incoming and the same outgoing weights as its first unit.

    At 1 all units compute the same, get the same gradient and stay equal for ever: the layer is worth one unit.

    Args:
        incoming: The layer's weight, (units, inputs).
        outgoing: The next layer's weight, (units above, units).

    Returns:
        Scalar in [1/units, 1].

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
        activations: One layer's outputs, (examples, units).

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
    """`PERCENTILES` of a tensor of any shape, from at most 8,192 of its values spread evenly over it; (5,)."""
    flat = values.reshape(-1)
    stride = max(1, flat.numel() // _PERCENTILE_SAMPLE)
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
    """Size of one update beside the size of what it changed: ‖after − before‖ / ‖before‖, one number per tensor.

    About 1e-3, give or take a factor of 10, is healthy.

    Args:
        before: Copies of the weights before the optimizer's step, any shapes.
        after: The weights after it, in the same order.

    Returns:
        One ratio per tensor; None for weights that were all zero.

    Source: Hinton 2010, "A Practical Guide to Training Restricted Boltzmann Machines", section 7.
    """
    if not before:
        return []
    pairs = [torch.stack([norm(b - a), norm(b)]) for b, a in zip(before, after, strict=True)]
    return [change / size if size > 0 else None for change, size in torch.stack(pairs).tolist()]


def slope(values: Sequence[float]) -> float:
    """Trend of a quantity, such as a dead share: least-squares slope per probe or epoch; 0 for fewer than two."""
    n = len(values)
    if n < 2:
        return 0.0
    centre, mean = (n - 1) / 2, sum(values) / n
    spread = sum((i - centre) ** 2 for i in range(n))
    return sum((i - centre) * (value - mean) for i, value in enumerate(values)) / spread


@dataclass(frozen=True)
class DataSummary:
    """What a split looks like to the network.

    Attributes:
        num_examples: Examples in it.
        num_features: Features of one example.
        constant_feature_fraction: Share of features that have one and the same value in every example.
        input_mean: Mean over examples and features.
        input_sd: Standard deviation over examples and features.
        class_fractions: Share of every class; empty for regression.
    """

    num_examples: int
    num_features: int
    constant_feature_fraction: float
    input_mean: float
    input_sd: float
    class_fractions: list[float]


def summarise_data(inputs: Tensor, labels: Tensor | None = None, num_classes: int | None = None) -> DataSummary:
    """Count constant features and classes of a split, or of a sample of it.

    Args:
        inputs: As the network gets them, normalized, (examples, …).
        labels: Class of each example, (examples,), integers; None for regression.
        num_classes: How many classes there are; needed with labels.

    Raises:
        ValueError: If there are no examples, or labels without num_classes.
    """
    if len(inputs) == 0:
        raise ValueError("no examples to summarise")
    x = inputs.detach().flatten(1).float()
    sd, mean = torch.std_mean(x, correction=0)
    constant = (x.amin(dim=0) == x.amax(dim=0)).float().mean()
    fractions: list[float] = []
    if labels is not None:
        if num_classes is None:
            raise ValueError("labels need num_classes")
        counts = torch.bincount(labels.detach().flatten().long(), minlength=num_classes)
        fractions = (counts / len(labels)).tolist()
    constant_fraction, input_mean, input_sd = torch.stack([constant, mean, sd]).tolist()
    return DataSummary(len(x), x.shape[1], constant_fraction, input_mean, input_sd, fractions)
