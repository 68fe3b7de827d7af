"""Optimizers against torch.optim and updates done by hand (N28), schedules against torch.optim.lr_scheduler (N29)."""

import copy
import io
import math
from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import lr_scheduler

from project.errors import InputError
from project.network.mlp import MLP
from project.network.optimization.muon import MuonWithAdamW, orthogonalized
from project.network.optimization.optimizers import OPTIMIZERS, build_optimizer, check_optimizer, resolved_numbers
from project.network.optimization.schedules import SCHEDULES, learning_rate_factor

LR, MOMENTUM, DECAY = 0.02, 0.8, 0.1
BETAS = (MOMENTUM, 0.999)
# name → the optimizer that is meant, over some parameters with some weight decay
REFERENCES: dict[str, Callable[[list[Tensor], float], torch.optim.Optimizer]] = {
    "sgd": lambda p, decay: torch.optim.SGD(p, LR, weight_decay=decay),
    "momentum": lambda p, decay: torch.optim.SGD(p, LR, momentum=MOMENTUM, weight_decay=decay),
    "nesterov": lambda p, decay: torch.optim.SGD(p, LR, momentum=MOMENTUM, nesterov=True, weight_decay=decay),
    "adagrad": lambda p, decay: torch.optim.Adagrad(p, LR, weight_decay=decay),
    "rmsprop": lambda p, decay: torch.optim.RMSprop(p, LR, momentum=MOMENTUM, weight_decay=decay),
    "adam": lambda p, decay: torch.optim.Adam(p, LR, BETAS, weight_decay=decay),
    "adamw": lambda p, decay: torch.optim.AdamW(p, LR, BETAS, weight_decay=decay),
    "nadam": lambda p, decay: torch.optim.NAdam(p, LR, BETAS, weight_decay=decay),
    "radam": lambda p, decay: torch.optim.RAdam(p, LR, BETAS, weight_decay=decay),
}
needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon came with torch 2.9")


def network(depth: int = 2) -> MLP:
    torch.manual_seed(0)
    return MLP(6, 3, depth=depth, width=8, activation="prelu", norm="batch", dropout=0.0)


def hidden_weights(mlp: MLP) -> list[Tensor]:
    weights: list[Tensor] = [layer.linear.weight for layer in mlp.hidden]  # type: ignore[misc]
    return weights


def build(name: str, mlp: MLP, **settings: Any) -> torch.optim.Optimizer:
    defaults = {"learning_rate": LR, "momentum": MOMENTUM, "weight_decay": DECAY}
    return build_optimizer(name, mlp, hidden_weights(mlp), **(defaults | settings))


def set_gradients(mlp: nn.Module, step: int) -> None:
    """The same made-up gradients for every network of the same shape."""
    generator = torch.Generator().manual_seed(step)
    for p in mlp.parameters():
        p.grad = torch.randn(p.shape, generator=generator)


def steps(mlp: nn.Module, optimizers: list[torch.optim.Optimizer], numbers: range) -> None:
    for number in numbers:
        set_gradients(mlp, number)
        for optimizer in optimizers:
            optimizer.step()


def assert_equal_parameters(ours: nn.Module, theirs: nn.Module, exact: bool = False) -> None:
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        close = {"rtol": 0.0, "atol": 0.0} if exact else {"rtol": 1e-5, "atol": 1e-6}
        torch.testing.assert_close(p, q, msg=f"{name}: {p} is not {q}", **close)


def test_every_name_is_tested_here() -> None:
    assert {*REFERENCES, "muon"} == set(OPTIMIZERS), "each row needs an optimizer to compare with in REFERENCES"
    assert set(TORCH_SCHEDULES) == set(SCHEDULES), "each row needs a schedule to compare with in TORCH_SCHEDULES"


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", REFERENCES)
def test_the_first_updates_are_those_of_torch(name: str, fused: bool) -> None:
    ours, theirs = network(), network()
    matrices = [p for p in theirs.parameters() if p.ndim == 2]
    vectors = [p for p in theirs.parameters() if p.ndim < 2]
    references = [REFERENCES[name](matrices, DECAY), REFERENCES[name](vectors, 0.0)]
    steps(ours, [build(name, ours, fused=fused)], range(10))
    steps(theirs, references, range(10))
    assert_equal_parameters(ours, theirs)


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "adam", "adamw"])
def test_the_first_two_updates_by_hand(name: str) -> None:
    """Sutskever et al. 2013, eqs. 1 to 4 in torch's form; Kingma & Ba 2015, algorithm 1."""
    mlp = network(depth=0)
    weight = mlp.output.weight
    start = weight.detach().double()
    optimizer = build(name, mlp, weight_decay=0.0)
    gradients = []
    for step in range(2):
        set_gradients(mlp, step)
        gradients.append(weight.grad.double())
        optimizer.step()
    g1, g2 = gradients
    beta1, beta2 = BETAS
    if name == "sgd":
        moves = g1 + g2
    elif name == "momentum":
        moves = g1 + (MOMENTUM * g1 + g2)
    elif name == "nesterov":
        moves = (g1 + MOMENTUM * g1) + (g2 + MOMENTUM * (MOMENTUM * g1 + g2))
    else:
        m2 = (beta1 * (1 - beta1) * g1 + (1 - beta1) * g2) / (1 - beta1**2)
        v2 = (beta2 * (1 - beta2) * g1**2 + (1 - beta2) * g2**2) / (1 - beta2**2)
        moves = g1 / (g1.abs() + 1e-8) + m2 / (v2.sqrt() + 1e-8)
    torch.testing.assert_close(weight.detach().double(), start - LR * moves, rtol=1e-4, atol=1e-6)


ALL_NAMES = [*REFERENCES, "muon"]


@pytest.mark.parametrize("name", ALL_NAMES)
def test_weight_decay_leaves_biases_and_norm_parameters_alone(name: str) -> None:
    without, strong = network(), network()
    steps(without, [build(name, without, weight_decay=0.0)], range(3))
    steps(strong, [build(name, strong, weight_decay=1.0)], range(3))
    after = dict(strong.named_parameters())
    for key, p in without.named_parameters():
        assert torch.equal(p, after[key]) == (p.ndim < 2), key
    covered = [id(p) for group in build(name, strong).param_groups for p in group["params"]]
    assert sorted(covered) == sorted(map(id, strong.parameters()))


@pytest.mark.parametrize("name", ALL_NAMES)
def test_resuming_from_the_saved_state_is_bit_identical(name: str) -> None:
    straight = network()
    optimizer = build(name, straight)
    steps(straight, [optimizer], range(4))
    resumed = copy.deepcopy(straight)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    restored = build(name, resumed)
    restored.load_state_dict(torch.load(file, weights_only=True))
    steps(straight, [optimizer], range(4, 8))
    steps(resumed, [restored], range(4, 8))
    assert_equal_parameters(resumed, straight, exact=True)


class TestMuon:
    @needs_muon
    def test_equals_muon_on_the_hidden_weights_and_adamw_on_the_rest(self) -> None:
        ours, theirs = network(), network()
        hidden = hidden_weights(theirs)
        others = [p for p in theirs.parameters() if all(p is not weight for weight in hidden)]
        references = [
            torch.optim.Muon(hidden, LR, DECAY, MOMENTUM, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW([p for p in others if p.ndim == 2], LR, BETAS, weight_decay=DECAY),
            torch.optim.AdamW([p for p in others if p.ndim < 2], LR, BETAS, weight_decay=0.0),
        ]
        steps(ours, [build("muon", ours)], range(6))
        steps(theirs, references, range(6))
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=0, atol=0.02 * LR)  # torch has eight bits for Muon's products

    @pytest.mark.parametrize("shape", [(5, 5), (4, 9), (9, 4)], ids=str)
    def test_orthogonalization_maps_the_singular_values_alone(self, shape: tuple[int, int]) -> None:
        """X = USVᵀ keeps U and V; each singular value goes five times through as + bs³ + cs⁵."""
        torch.manual_seed(1)
        matrix = torch.randn(shape, dtype=torch.float64)
        u, values, v = torch.linalg.svd(matrix, full_matrices=False)
        values /= matrix.norm()
        for _ in range(5):
            values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
        torch.testing.assert_close(orthogonalized(matrix), u @ torch.diag(values) @ v)
        assert orthogonalized(torch.zeros(shape)).abs().max() == 0

    def test_an_update_is_near_orthogonal_with_adamws_root_mean_square(self) -> None:
        """Liu et al. 2025, eq. 4: an orthogonal (n, m) update times 0.2·√max(n, m) has entries of 0.2 on average."""
        torch.manual_seed(0)
        mlp = MLP(64, 3, depth=1, width=64, norm="none", dropout=0.0)
        weight = mlp.hidden[0].linear.weight
        start = weight.detach().clone()
        steps(mlp, [build("muon", mlp, weight_decay=0.0)], range(1))
        update = (weight.detach() - start) / LR
        assert update.square().mean().sqrt().item() == pytest.approx(0.2, rel=0.2)
        values = torch.linalg.svdvals(update) / (0.2 * math.sqrt(64))
        assert (values > 0.5).float().mean() > 0.9  # five Newton-Schulz steps bring most to within 0.7 and 1.2
        assert values.max() < 1.3

    def test_a_convolutions_weight_is_a_matrix_of_units_and_inputs(self) -> None:
        torch.manual_seed(0)
        kernels = torch.nn.Parameter(torch.randn(6, 2, 3, 3))
        matrix = torch.nn.Parameter(kernels.detach().flatten(1).clone())
        gradients = torch.randn(3, 6, 2, 3, 3)
        rest = torch.nn.Parameter(torch.zeros(1))
        for weight in (kernels, matrix):
            optimizer = MuonWithAdamW({"params": [weight], "weight_decay": DECAY}, [{"params": [rest]}], LR, MOMENTUM)
            for gradient in gradients:
                weight.grad = gradient.view_as(weight)
                optimizer.step()
        assert torch.equal(kernels.flatten(1), matrix)

    def test_a_schedule_reaches_both_parts(self) -> None:
        ours, theirs = network(), network()
        optimizer = build("muon", ours)
        scheduler = lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
        reference = build("muon", theirs)
        for number in range(4):
            for group in reference.param_groups:
                group["lr"] = LR * 0.5**number
            steps(ours, [optimizer], range(number, number + 1))
            steps(theirs, [reference], range(number, number + 1))
            scheduler.step()
        assert_equal_parameters(ours, theirs, exact=True)
        lower = network()
        steps(lower, [build("muon", lower)], range(4))
        for (name, p), q in zip(ours.named_parameters(), lower.parameters(), strict=True):
            assert not torch.equal(p, q), name

    def test_a_schedule_reaches_both_parts_after_resuming(self) -> None:
        mlp = network()
        optimizer = build("muon", mlp)
        steps(mlp, [optimizer], range(2))
        optimizer.load_state_dict(optimizer.state_dict())
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        before = copy.deepcopy(mlp)
        steps(mlp, [optimizer], range(2, 4))
        assert_equal_parameters(mlp, before, exact=True)

    def test_a_closure_is_called_once_with_gradients_on(self) -> None:
        mlp = network()
        optimizer = build("muon", mlp)
        calls = []

        def closure() -> Tensor:
            calls.append(torch.is_grad_enabled())
            optimizer.zero_grad()
            loss = mlp(torch.ones(4, 6) * torch.arange(4.0)[:, None]).square().sum()
            loss.backward()
            return loss

        before = copy.deepcopy(mlp)
        assert torch.as_tensor(optimizer.step(closure)).detach() > 0
        assert calls == [True]
        assert not torch.equal(mlp.output.weight, before.output.weight)


REFUSED = [
    *(("adamw", {"learning_rate": x}, "learning_rate") for x in (0, -1, math.nan, math.inf)),
    *(("sgd", {"momentum": x}, "momentum") for x in (-0.1, 1.0, math.nan)),
    *(("adamw", {"weight_decay": x}, "weight_decay") for x in (-0.1, math.nan, math.inf)),
    ("nesterov", {"momentum": 0.0}, "nesterov"),
    ("muon", {"num_hidden": 0}, "model.depth 0"),
]


@pytest.mark.parametrize(("name", "wrong", "cause"), REFUSED, ids=str)
def test_refusals(name: str, wrong: dict[str, Any], cause: str) -> None:
    fine = {"learning_rate": LR, "momentum": MOMENTUM, "weight_decay": DECAY, "num_hidden": 2}
    with pytest.raises(InputError, match=cause):
        check_optimizer(name, **(fine | wrong))
    depth = wrong.get("num_hidden", 2)
    with pytest.raises(InputError, match=cause):
        build(name, network(depth), **{key: value for key, value in wrong.items() if key != "num_hidden"})


@pytest.mark.parametrize("name", ALL_NAMES)
def test_facts_of_every_row(name: str) -> None:
    row, mlp = OPTIMIZERS[name], network()
    assert row.hidden_apart == (len(build(name, mlp).param_groups) == 3)
    groups = [{"params": hidden_weights(mlp)}, {"params": [mlp.output.weight]}]
    with pytest.raises(ValueError, match="momentum") if row.needs_momentum else nullcontext():
        row.build(torch.optim, groups, LR, 0.0, False)


@pytest.mark.parametrize("name", ALL_NAMES)
def test_the_numbers_of_every_row_make_it(name: str) -> None:
    numbers = resolved_numbers(name, "auto", "auto", "auto")
    check_optimizer(name, *numbers, num_hidden=2)
    assert (numbers[2] > 0) == OPTIMIZERS[name].decoupled_decay


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_facts_of_every_schedule(schedule: str) -> None:
    row = SCHEDULES[schedule]
    factors = [learning_rate_factor(schedule, step, 120, 10) for step in range(120)]
    changes = [b - a for a, b in pairwise(factors) if b != a]
    assert row.steady == (not changes)
    falls = [change < 0 for change in changes]
    assert row.oscillates == any(fell and not falls_again for fell, falls_again in pairwise(falls))


@pytest.mark.parametrize("warmup_fraction", [-0.1, 1.0, math.nan])
def test_a_wrong_warm_up_is_refused(warmup_fraction: float) -> None:
    with pytest.raises(InputError, match="warmup_fraction"):
        learning_rate_factor("linear", 0, 10, warmup_fraction=warmup_fraction)


def rates(make: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler], num_steps: int) -> list[float]:
    """The learning rate of each step of a training under one of torch's own schedules, where 1 is the full rate."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    found = []
    for _ in range(num_steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


TORCH_SCHEDULES: dict[str, Callable[[torch.optim.Optimizer, int, int], lr_scheduler.LRScheduler]] = {
    "constant": lambda o, n, epoch: lr_scheduler.ConstantLR(o, factor=1.0),
    "linear": lambda o, n, epoch: lr_scheduler.PolynomialLR(o, total_iters=n, power=1.0),
    "step": lambda o, n, epoch: lr_scheduler.MultiStepLR(
        o, [epoch * math.ceil(n / epoch / 2), epoch * math.ceil(n / epoch * 3 / 4)]
    ),
    "exponential": lambda o, n, epoch: lr_scheduler.ExponentialLR(o, 0.01 ** (1 / n)),
    "cosine": lambda o, n, epoch: lr_scheduler.CosineAnnealingLR(o, T_max=n),
    "cyclic": lambda o, n, epoch: lr_scheduler.CyclicLR(o, 0.1, 1.0, step_size_up=n / 6, cycle_momentum=False),
    "one_cycle": lambda o, n, epoch: lr_scheduler.OneCycleLR(o, 1.0, total_steps=n, cycle_momentum=False),
}


@pytest.mark.parametrize(
    ("num_steps", "steps_per_epoch"), [(1, 1), (2, 1), (3, 1), (4, 2), (5, 5), (60, 10), (77, 7), (90, 20)]
)
@pytest.mark.parametrize("schedule", TORCH_SCHEDULES)
def test_whole_runs_equal_torchs_schedules(schedule: str, num_steps: int, steps_per_epoch: int) -> None:
    ours = [learning_rate_factor(schedule, step, num_steps, steps_per_epoch) for step in range(num_steps)]
    expected = rates(lambda o: TORCH_SCHEDULES[schedule](o, num_steps, steps_per_epoch), num_steps)
    assert ours == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_schedules_by_hand() -> None:
    def factors(schedule: str, *points: int, num_steps: int = 60, steps_per_epoch: int = 1) -> list[float]:
        return [learning_rate_factor(schedule, step, num_steps, steps_per_epoch) for step in points]

    assert factors("linear", 0, 15, 30, 60, 99) == pytest.approx([1, 0.75, 0.5, 0, 0])
    assert factors("cosine", 0, 20, 30, 60, 99) == pytest.approx([1, 0.75, 0.5, 0, 0])
    assert factors("exponential", 0, 30, 60, 99) == pytest.approx([1, 0.1, 0.01, 0.01])
    assert factors("cyclic", 0, 10, 20, 30, 45, 60) == pytest.approx([0.1, 1, 0.1, 1, 0.55, 0.1])
    assert factors("one_cycle", 0, 17, 59, 99) == pytest.approx([1 / 25, 1, 1 / 250_000, 1 / 250_000])
    # epochs of 10 steps: the fourth of six starts at the middle; three quarters fall inside the fifth
    assert factors("step", 29, 30, 49, 50, steps_per_epoch=10) == pytest.approx([1, 0.1, 0.1, 0.01])
    # a single epoch has no later one to decay in
    assert factors("step", 0, 59, steps_per_epoch=60) == [1, 1]


def counts_epochs(schedule: str) -> bool:
    """Whether the share of the training that was done before this epoch matters, as for step."""
    return len({SCHEDULES[schedule].factor(9, 10, done) for done in (0.0, 0.6, 0.9)}) > 1


def test_warm_up_by_hand() -> None:
    # 4 of 20 steps: fifths of the start; then the schedule has 16 steps of its own
    ours = [learning_rate_factor("linear", step, 20, warmup_fraction=0.2) for step in range(20)]
    assert ours == pytest.approx([0.2, 0.4, 0.6, 0.8, *(1 - k / 16 for k in range(16))])
    assert learning_rate_factor("one_cycle", 0, 20, warmup_fraction=0.2) == pytest.approx(0.2 / 25)
    assert learning_rate_factor("cyclic", 3, 20, warmup_fraction=0.2) == pytest.approx(0.8 * 0.1)


@pytest.mark.parametrize("schedule", [name for name in SCHEDULES if not counts_epochs(name)])
def test_warm_up_is_followed_by_the_same_schedule(schedule: str) -> None:
    after = [learning_rate_factor(schedule, step, 50, warmup_fraction=0.2) for step in range(10, 50)]
    assert after == [learning_rate_factor(schedule, step, 40) for step in range(40)]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    schedule=st.sampled_from(list(SCHEDULES)),
    num_steps=st.integers(1, 400),
    steps_per_epoch=st.integers(1, 50),
    warmup_fraction=st.floats(0, 1, exclude_max=True),
)
def test_any_run_has_shares_as_factors(
    schedule: str, num_steps: int, steps_per_epoch: int, warmup_fraction: float
) -> None:
    factors = [
        learning_rate_factor(schedule, step, num_steps, steps_per_epoch, warmup_fraction)
        for step in range(num_steps + 3)
    ]
    assert all(0 <= factor <= 1 for factor in factors)
    assert all(factor > 0 for factor in factors[:num_steps])  # no step is without effect
    assert factors[num_steps] == factors[num_steps + 1] == factors[num_steps + 2]
    warmup_steps = min(round(warmup_fraction * num_steps), num_steps - 1)
    assert factors[: warmup_steps + 1] == sorted(factors[: warmup_steps + 1])
    if schedule in ("constant", "linear", "step", "exponential", "cosine"):
        assert factors[warmup_steps:] == sorted(factors[warmup_steps:], reverse=True)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    schedule=st.sampled_from(["constant", "linear", "exponential", "cosine", "cyclic", "one_cycle"]),
    num_steps=st.integers(20, 1000),
    warmup_fraction=st.floats(0, 0.5),
)
def test_no_jumps_but_those_of_step(schedule: str, num_steps: int, warmup_fraction: float) -> None:
    factors = [learning_rate_factor(schedule, step, num_steps, 1, warmup_fraction) for step in range(num_steps)]
    warmup_steps = round(warmup_fraction * num_steps)
    # the steepest of all is one_cycle's climb: at most 0.96·π/2 / (0.3·n − 1) from one step to the next
    steepest = 0.96 * math.pi / 2 / (0.3 * (num_steps - warmup_steps) - 1)
    bound = max(6 / (num_steps - warmup_steps), steepest, 1 / (warmup_steps + 1) if warmup_steps else 0)
    assert max(abs(b - a) for a, b in pairwise(factors)) <= bound + 1e-9
