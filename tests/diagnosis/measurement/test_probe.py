"""The probe against hand calculations, numpy and plain autograd."""

import copy
import json
import math
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from project.diagnosis.measurement.probe import (
    PERCENTILES,
    Probe,
    dead_unit_fraction,
    effective_rank,
    identical_unit_fraction,
    norm,
    percentiles,
    probe,
    saturated_fraction,
    update_to_weight_ratio,
)
from project.diagnosis.measurement.quantities import DIAGNOSTICS
from project.network.layers import recorded_signals
from project.network.mlp import MLP


def make(examples: int = 64, **settings: Any) -> tuple[MLP, Tensor, Tensor]:
    """A network of three hidden layers, inputs (examples, 20) and labels of 4 classes."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(examples, 20, generator=generator), torch.randint(4, (examples,), generator=generator)
    torch.manual_seed(0)
    return MLP(20, 4, **({"depth": 3, "width": [16, 12, 8], "norm": "none", "dropout": 0.0} | settings)), x, y


def probe_of(examples: int = 64, with_effective_rank: bool = True, **settings: Any) -> Probe:
    return probe(*make(examples, **settings), F.cross_entropy, with_effective_rank=with_effective_rank)


def test_probe_agrees_with_the_same_network_written_out() -> None:
    mlp, x, y = make(activation="tanh")
    measured = probe(mlp, x, y, F.cross_entropy)

    z, a, h = [], [], x
    for block in mlp.hidden:
        z.append(h @ block.linear.weight.T + block.linear.bias)
        z[-1].retain_grad()
        a.append(h := torch.tanh(z[-1]))
    logits = h @ mlp.output.weight.T + mlp.output.bias
    logits.retain_grad()
    F.cross_entropy(logits, y).backward()

    assert measured.loss == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-5)
    assert measured.num_examples == 64
    assert measured.input_second_moment == pytest.approx(float((x.numpy() ** 2).mean()), rel=1e-5)
    assert [layer.name for layer in measured.hidden] == ["hidden 1", "hidden 2", "hidden 3"]
    for layer, block, pre, post in zip(measured.hidden, mlp.hidden, z, a, strict=True):
        weight, bias = block.linear.weight, block.linear.bias
        assert (layer.n_out, layer.n_in) == tuple(weight.shape)
        values, outputs = pre.detach().double().numpy(), post.detach().numpy()
        expected = {
            "pre_activation_mean": values.mean(),
            "pre_activation_sd": values.std(ddof=1),
            "pre_activation_percentiles": np.percentile(values, PERCENTILES),
            "activation_sd": outputs.std(ddof=1),
            "activation_percentiles": np.percentile(outputs, PERCENTILES),
            "weight_norm": weight.detach().norm().item(),
            "weight_gradient_norm": weight.grad.norm().item(),
            "bias_gradient_norm": bias.grad.norm().item(),
        }
        for name, number in expected.items():
            assert getattr(layer, name) == pytest.approx(number, rel=1e-4, abs=1e-5), name
        assert layer.saturated_fraction == pytest.approx((1 - outputs**2 < 0.05).mean(), abs=1e-3)
    assert measured.output.name == "output"
    assert measured.output.activation_sd == pytest.approx(logits.detach().std().item(), rel=1e-5)
    assert measured.output.bias_gradient_norm == pytest.approx(mlp.output.bias.grad.norm().item(), rel=1e-4)


def test_pre_activation_gradient_is_the_root_mean_square_over_single_examples() -> None:
    mlp, x, y = make(examples=10, activation="gelu")
    squares = np.zeros(3)
    for example, label in zip(x, y, strict=True):
        h, z = example[None], []
        for block in mlp.hidden:
            z.append(block.linear(h))
            h = block.activation(z[-1])
        gradients = torch.autograd.grad(F.cross_entropy(mlp.output(h), label[None]), z)
        squares += [g.square().sum().item() for g in gradients]
    measured = probe(mlp, x, y, F.cross_entropy)
    norms = [layer.pre_activation_gradient_norm for layer in measured.hidden]
    assert norms == pytest.approx(np.sqrt(squares / 10), rel=1e-4)
    assert measured.gradient_ratio == pytest.approx(math.sqrt(squares[0] / squares[2]), rel=1e-4)
    twice = probe(mlp, x.repeat(2, 1), y.repeat(2), F.cross_entropy)
    assert twice.gradient_ratio == pytest.approx(measured.gradient_ratio, rel=1e-4)
    assert twice.hidden[0].pre_activation_gradient_norm == pytest.approx(norms[0], rel=1e-4)


def everything(mlp: MLP) -> dict[str, Any]:
    gradients = [p.grad for p in mlp.parameters()]
    return {
        "tensors": [value.clone() for value in (*mlp.state_dict().values(), *gradients) if value is not None],
        "gradients": [gradient is None for gradient in gradients],
        "training": [module.training for module in mlp.modules()],
        "tracking": [getattr(module, "track_running_stats", None) for module in mlp.modules()],
        "hooks": [len(module._forward_hooks) for module in mlp.modules()],
        "random": torch.get_rng_state(),
    }


@pytest.mark.parametrize("fails", [True, False])
def test_probe_leaves_no_trace(fails: bool) -> None:
    mlp, x, y = make(norm="batch", dropout=0.5)
    F.cross_entropy(mlp(x), y).backward()
    mlp.hidden[1].eval()  # a mixture of flags, which must come back as it was
    if fails:
        mlp.output = nn.Linear(3, 4)  # fails in the forward pass, while the hooks are there
    before = everything(mlp)
    with pytest.raises(RuntimeError) if fails else nullcontext():
        probe(mlp, x, y, F.cross_entropy)
    after = everything(mlp)
    tensors, random = before.pop("tensors"), before.pop("random")
    assert all(map(torch.equal, tensors, after.pop("tensors")))
    assert torch.equal(random, after.pop("random"))
    assert before == after
    assert not x.requires_grad


def test_batch_norm_uses_the_statistics_of_the_batch() -> None:
    mlp, x, y = make(norm="batch")
    for block in mlp.hidden:
        block.norm.running_mean.fill_(0.3)
        block.norm.running_var.fill_(2.0)
    measured = probe(mlp, x, y, F.cross_entropy)
    assert measured.loss == pytest.approx(F.cross_entropy(copy.deepcopy(mlp).train()(x), y).item(), rel=1e-5)
    assert measured.hidden[1].pre_activation_mean == pytest.approx(0, abs=1e-5)
    assert measured.hidden[1].pre_activation_sd == pytest.approx(1, rel=1e-2)


def test_probe_works_whatever_surrounds_it() -> None:
    mlp, x, y = make(norm="batch")
    expected = probe(mlp, x, y, F.cross_entropy)
    with torch.no_grad():
        assert probe(mlp, x, y, F.cross_entropy) == expected
    with torch.inference_mode():
        assert probe(mlp, x.clone(), y.clone(), F.cross_entropy) == expected
    with torch.autocast("cpu", torch.bfloat16):
        assert probe(mlp, x, y, F.cross_entropy) == expected


def test_the_host_waits_once(monkeypatch: pytest.MonkeyPatch) -> None:
    mlp, x, y = make(norm="batch")
    waits: list[str] = []
    for name in ("tolist", "item", "__bool__", "__float__", "__int__", "cpu", "numpy"):
        original = getattr(Tensor, name)

        def counted(self: Tensor, *args: Any, _name: str = name, _original: Any = original) -> Any:
            waits.append(_name)
            return _original(self, *args)

        monkeypatch.setattr(Tensor, name, counted)
    probe(mlp, x, y, F.cross_entropy)
    assert waits == ["tolist"]


@pytest.mark.parametrize("depth", [0, 1])
def test_shallow_networks_have_no_gradient_ratio_and_effective_rank_can_be_left_out(depth: int) -> None:
    measured = probe_of(depth=depth, width=8, with_effective_rank=False)
    assert (len(measured.hidden), measured.gradient_ratio) == (depth, None)
    assert {layer.effective_rank for layer in measured.layers} == {None}


def test_probe_refuses_a_single_example() -> None:
    with pytest.raises(ValueError):
        probe_of(examples=1)


def test_probe_becomes_json_even_when_the_network_has_diverged() -> None:
    mlp, x, y = make()
    with torch.no_grad():
        mlp.hidden[1].linear.weight[0, 0] = torch.nan
    measured = probe(mlp, x, y, F.cross_entropy)
    assert math.isnan(measured.loss)
    content = json.loads(json.dumps(measured.to_dict(), allow_nan=False))
    assert content["loss"] is None
    assert content["gradient_ratio"] is None
    assert content["hidden"][0]["dead_fraction"] == measured.hidden[0].dead_fraction
    assert len(content["hidden"][0]["activation_percentiles"]) == len(PERCENTILES)


def test_a_dead_layer_is_seen_as_dead_and_gets_no_gradient() -> None:
    mlp, x, y = make()
    with torch.no_grad():
        mlp.hidden[1].linear.bias.fill_(-1e3)
    measured = probe(mlp, x, y, F.cross_entropy)
    assert measured.hidden[0].dead_fraction < 0.5
    assert measured.hidden[1].dead_fraction == 1
    assert measured.hidden[0].weight_gradient_norm == 0
    assert measured.hidden[1].effective_rank == 0


def test_zero_weights_leave_a_gradient_to_the_last_bias_alone() -> None:
    measured = probe_of(init="zeros")
    assert [layer.weight_gradient_norm for layer in measured.layers] == [0] * 4
    assert [layer.bias_gradient_norm for layer in measured.hidden] == [0] * 3
    assert measured.output.bias_gradient_norm > 0
    assert [layer.identical_unit_fraction for layer in measured.hidden] == [1] * 3


def test_saturated_fraction_by_hand() -> None:
    z = torch.tensor([[-3.0, -0.9], [0.9, 2.0]])
    assert saturated_fraction(z, (-1.0, 1.0)).item() == 0.5
    assert saturated_fraction(z, (-4.0, 1.0)).item() == 0.25
    assert saturated_fraction(100 * z, None).item() == 0  # unbounded activations do not saturate


def test_dead_unit_fraction_by_hand() -> None:
    activations = torch.tensor([[0.0, 0.0, 1.0, -0.1], [0.0, 2.0, 1.0, 0.1], [0.0, 0.0, 1.0, 0.0]])
    assert dead_unit_fraction(activations).item() == 0.25


def test_identical_unit_fraction_needs_both_sides_to_be_equal() -> None:
    incoming, outgoing = torch.ones(4, 3), torch.ones(2, 4)
    assert identical_unit_fraction(incoming, outgoing).item() == 1
    outgoing[1, 3] = 2
    assert identical_unit_fraction(incoming, outgoing).item() == 0.75
    incoming[2, 0] = 0
    assert identical_unit_fraction(incoming, outgoing).item() == 0.5


@pytest.mark.parametrize("name", [*DIAGNOSTICS, "silent_fraction"])
def test_every_further_quantity_is_a_number(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DIAGNOSTICS, "silent_fraction", lambda _, a: (a == 0).float().mean())
    mlp, x, y = make()
    with recorded_signals(mlp) as signals:
        mlp(x)
    measured = [layer.own[name] for layer in probe(mlp, x, y, F.cross_entropy).hidden]
    assert np.isfinite(measured).all()
    if name == "silent_fraction":
        assert measured == pytest.approx([(a == 0).float().mean().item() for _, a in signals])


def test_effective_rank_of_known_matrices() -> None:
    assert effective_rank(torch.eye(7)).item() == pytest.approx(7)
    vector = torch.arange(1.0, 9.0)
    assert effective_rank(vector[:, None] * vector).item() == pytest.approx(1, abs=1e-4)
    # singular values 3 and 1: p = 3/4 and 1/4
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert effective_rank(torch.tensor([[3.0, 0, 0], [0, 1.0, 0]])).item() == pytest.approx(math.exp(entropy))
    assert effective_rank(torch.zeros(5, 4)).item() == 0
    assert math.isnan(effective_rank(torch.tensor([[1.0, torch.nan], [0.0, 1.0]])).item())


@settings(deadline=None, max_examples=30, derandomize=True)
@given(rows=st.integers(1, 40), columns=st.integers(1, 40), seed=st.integers(0, 1000), exponent=st.integers(-30, 30))
def test_effective_rank_follows_its_definition(rows: int, columns: int, seed: int, exponent: int) -> None:
    generator = np.random.default_rng(seed)
    matrix = generator.normal(size=(rows, columns)) * 10.0 ** generator.uniform(-3, 0, columns)
    sigma = np.linalg.svd(matrix, compute_uv=False)
    p = sigma / sigma.sum()
    expected = math.exp(-(p * np.log(p)).sum())
    measured = effective_rank(torch.tensor(matrix * 10.0**exponent, dtype=torch.float64))
    assert measured.item() == pytest.approx(expected, rel=1e-3)


def test_percentiles_of_few_values_are_exact_and_of_many_close() -> None:
    few = torch.randn(30, 7)
    assert percentiles(few).tolist() == pytest.approx(np.percentile(few, PERCENTILES), abs=1e-6)
    # units differ from each other: a stride that always met the same ones would show
    many = torch.randn(512, 256) + torch.linspace(-3, 3, 256)
    assert percentiles(many).tolist() == pytest.approx(np.percentile(many, PERCENTILES), abs=0.1)


def test_norm_survives_squares_that_would_underflow_or_overflow() -> None:
    assert norm(torch.tensor([3e-30, 4e-30])).item() == pytest.approx(5e-30)
    assert norm(torch.tensor([3e30, 4e30])).item() == pytest.approx(5e30)
    assert norm(torch.zeros(3)).item() == 0


def test_update_to_weight_ratio_of_plain_gradient_descent() -> None:
    linear = nn.Linear(3, 2)
    before = [linear.weight.detach().clone(), torch.zeros(2)]
    linear(torch.ones(1, 3)).sum().backward()
    torch.optim.SGD(linear.parameters(), lr=0.1).step()
    # the gradient is all ones
    expected = 0.1 * math.sqrt(6) / before[0].norm().item()
    after = [linear.weight, torch.ones(2)]
    assert update_to_weight_ratio(before, after) == [pytest.approx(expected, rel=1e-5), None]


def test_gradient_ratio_is_none_where_the_last_layer_gets_nothing() -> None:
    mlp, x, y = make()
    nn.init.zeros_(mlp.output.weight)
    assert probe(mlp, x, y, F.cross_entropy).gradient_ratio is None
