"""Every number in docs/worked_example.md (N10) by pure Python, PyTorch's autograd and the project's network."""

import ast
import math
import re
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch import nn

from project.network.mlp import MLP

Matrix: TypeAlias = Sequence[Sequence[Any]]
"""Rows of whole numbers, fractions or floats."""
Arrays: TypeAlias = "dict[str, np.ndarray[Any, np.dtype[np.float64]]]"

PAGE = (ROOT / "docs" / "worked_example.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?\b")
ROUNDED_DECIMALS = 8
UNIT = 10**-ROUNDED_DECIMALS

X = [[1, 1, 2], [1, 2, -1]]
Y = [[1, 0], [0, 1]]
W1 = [[Fraction(1, 4), Fraction(-1, 4)], [Fraction(1, 2), Fraction(1, 2)], [Fraction(1, 4), Fraction(-3, 4)]]
W2 = [[Fraction(1, 4), Fraction(-1, 4)], [Fraction(-1, 2), Fraction(1, 2)], [Fraction(1), Fraction(-1, 2)]]
ETA = Fraction(1, 4)
EPSILON = Fraction(1, 1024)

NAME_FOR_TWO = {name: name.capitalize() for name in ("x", "y", "z", "h", "p", "logits", "loss", "loss_new")}
NAME_FOR_TWO |= {f"grad_{name}": f"grad_{name.capitalize()}" for name in ("logits", "h", "z")}
NAME_FOR_TWO |= {"grad_W1": "grad_W1_batch", "grad_W2": "grad_W2_batch", "W1_new": "W1_batch", "W2_new": "W2_batch"}
"""What the page calls a quantity in the batch of two."""


def product(a: Matrix, b: Matrix) -> Matrix:
    columns = transpose(b)
    return [[sum(p * q for p, q in zip(row, column, strict=True)) for column in columns] for row in a]


def transpose(a: Matrix) -> Matrix:
    return [list(column) for column in zip(*a, strict=True)]


def elementwise(function: Callable[..., Any], *matrices: Matrix) -> Matrix:
    return [[function(*entries) for entries in zip(*rows, strict=True)] for rows in zip(*matrices, strict=True)]


def forward(x: Matrix, y: Matrix, w1: Matrix, w2: Matrix) -> dict[str, Any]:
    """All values up to the mean loss; exact up to the logits as long as the weights are fractions."""
    z = product(x, w1)
    h = [[1, *(max(value, 0) for value in row)] for row in z]
    logits = product(h, w2)
    exps = [[math.exp(value) for value in row] for row in logits]
    p = [[value / math.fsum(row) for value in row] for row in exps]
    losses = [-math.log(p_row[y_row.index(1)]) for p_row, y_row in zip(p, y, strict=True)]
    return {"z": z, "h": h, "logits": logits, "p": p, "loss": sum(losses) / len(losses)}


def step_by_hand(num_examples: int) -> dict[str, Any]:
    """Forward, backward, update, and forward again on the first examples, in pure Python."""
    x, y = X[:num_examples], Y[:num_examples]
    values: dict[str, Any] = {"x": x, "y": y, **forward(x, y, W1, W2)}
    grad_logits = elementwise(lambda p, label: (p - label) / num_examples, values["p"], y)
    grad_h = product(grad_logits, transpose(W2))
    grad_z = elementwise(lambda z, slope: slope if z > 0 else 0.0, values["z"], [row[1:] for row in grad_h])
    grad_w1, grad_w2 = product(transpose(x), grad_z), product(transpose(values["h"]), grad_logits)
    w1_new, w2_new = (
        elementwise(lambda weight, slope: weight - ETA * slope, *pair) for pair in ((W1, grad_w1), (W2, grad_w2))
    )
    values |= {"grad_logits": grad_logits, "grad_h": grad_h, "grad_z": grad_z}
    values |= {"grad_W1": grad_w1, "grad_W2": grad_w2, "W1_new": w1_new, "W2_new": w2_new}
    return values | {f"{name}_new": value for name, value in forward(x, y, w1_new, w2_new).items()}


def nudged_loss(epsilon: Fraction) -> Any:
    w2 = [row[:] for row in W2]
    w2[1][0] += epsilon
    return forward(X[:1], Y[:1], W1, w2)["loss"]


def by_hand() -> Arrays:
    """Every name on the page with its value as float64 array."""
    values: dict[str, Any] = {"W1": W1, "W2": W2, "eta": ETA, **step_by_hand(1)}
    values |= {"loss_up": nudged_loss(EPSILON), "loss_down": nudged_loss(-EPSILON)}
    values["total"] = math.fsum(math.exp(value) for value in values["logits"][0])
    batch = step_by_hand(2)
    values |= {page_name: batch[name] for name, page_name in NAME_FOR_TWO.items()}
    return {name: np.array(value, dtype=np.float64) for name, value in values.items()}


def step_by_autograd(num_examples: int) -> Arrays:
    """The same step from torch in float64, biases folded in."""
    x = torch.tensor(X[:num_examples], dtype=torch.float64)
    labels = torch.tensor([row.index(1) for row in Y[:num_examples]])
    w1, w2 = (torch.tensor(elementwise(float, w), dtype=torch.float64, requires_grad=True) for w in (W1, W2))

    def run() -> dict[str, torch.Tensor]:
        z = x @ w1
        h = torch.cat([torch.ones(len(x), 1, dtype=torch.float64), z.relu()], dim=1)
        logits = h @ w2
        return {"z": z, "h": h, "logits": logits, "loss": nn.functional.cross_entropy(logits, labels)}

    values = run()
    leaves = {"logits": values["logits"], "h": values["h"], "z": values["z"], "W1": w1, "W2": w2}
    gradients = torch.autograd.grad(values["loss"], list(leaves.values()))
    values |= {f"grad_{name}": gradient for name, gradient in zip(leaves, gradients, strict=True)}
    values["p"] = values["logits"].softmax(dim=1)
    w1.grad, w2.grad = values["grad_W1"], values["grad_W2"]
    torch.optim.SGD([w1, w2], lr=float(ETA)).step()
    values |= {f"{name}_new": value for name, value in run().items()} | {"W1_new": w1, "W2_new": w2}
    return {name: value.detach().numpy() for name, value in values.items()}


VALUES = by_hand()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def statements(block: str) -> Iterator[str]:
    """Lines of a block, each joined with those that follow while a bracket is open."""
    pending = ""
    for line in block.splitlines():
        pending += line
        if pending.count("[") == pending.count("]"):
            yield pending
            pending = ""
    assert not pending, f"bracket left open: {pending}"


STATEMENTS = [statement.replace("·", "*") for block in blocks("text") for statement in statements(block)]


def is_literal(part: str) -> bool:
    try:
        ast.literal_eval(part.strip())
    except ValueError:
        return False
    return True


def is_rounded(number: str) -> bool:
    return len(number.partition(".")[2]) == ROUNDED_DECIMALS


def tolerance(number: str) -> float:
    """Half a unit of the last decimal for a rounded number, nothing for an exact one."""
    return UNIT * 0.500001 if is_rounded(number) else 0.0


def check(statement: str) -> None:
    """Hold every part of `a = b = c` against the value by hand of the first."""
    truth = None
    for part in statement.split(" = "):
        names = VALUES | {"exp": np.exp, "ln": np.log, "__builtins__": {}}
        value = np.asarray(eval(part.strip(), names), dtype=np.float64)  # noqa: S307
        truth = value if truth is None else truth
        assert value.shape == truth.shape, f"{part}: shape {value.shape}, expected {truth.shape}"
        numbers = NUMBER.findall(part)
        if is_literal(part):
            for number, shown, expected in zip(numbers, value.ravel(), truth.ravel(), strict=True):
                assert abs(shown - expected) <= tolerance(number), f"{statement}: {shown}, expected {expected!r}"
        else:
            atol = 2 * UNIT if any(map(is_rounded, numbers)) else 1e-15
            np.testing.assert_allclose(value, truth, rtol=1e-14, atol=atol, err_msg=statement)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_statement_on_the_page_holds(statement: str) -> None:
    check(statement)


def test_a_wrong_digit_in_any_result_is_noticed() -> None:
    num_changed = 0
    for statement in STATEMENTS:
        parts = statement.split(" = ")
        for index, part in enumerate(parts):
            if is_literal(part):
                for match in NUMBER.finditer(part):
                    last = match.end() - 1
                    wrong = f"{part[:last]}{(int(part[last]) + 1) % 10}{part[last + 1 :]}"
                    with pytest.raises(AssertionError):
                        check(" = ".join([*parts[:index], wrong, *parts[index + 1 :]]))
                    num_changed += 1
    assert num_changed > 150


def test_no_decimal_on_the_page_is_unknown() -> None:
    """Also in running text, and in a formula where 0 times a wrong number would pass."""
    known: list[Any] = [value for array in VALUES.values() for value in array.ravel()]
    known += [*np.exp(VALUES["logits"][0]), np.log(VALUES["total"]), math.log(2), -math.log(VALUES["P"][1, 1])]
    known.append((VALUES["loss_up"] - VALUES["loss_down"]) / (2 * float(EPSILON)))
    outside_python = re.sub(r"^```python\n.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    decimals = [number for number in NUMBER.findall(outside_python) if "." in number]
    assert len(decimals) > 100
    for number in decimals:
        assert np.abs(np.abs(known) - float(number)).min() <= tolerance(number), number


def test_shapes_in_the_table() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| (\([\d, ]+\)) \|$", PAGE, flags=re.MULTILINE)
    assert [name for name, _ in rows] == ["x", "W1", "z", "h", "W2", "logits"]
    for name, shape in rows:
        assert VALUES[name].shape == ast.literal_eval(shape)


@pytest.mark.parametrize("num_examples", [1, 2])
def test_hand_calculation_equals_autograd(num_examples: int) -> None:
    """Exactly where nothing is rounded, elsewhere up to the last bits of a double."""
    actual = step_by_autograd(num_examples)
    for name, page_name in NAME_FOR_TWO.items():
        if name in actual:
            expected = VALUES[name if num_examples == 1 else page_name]
            exact = name in ("z", "h", "logits")
            np.testing.assert_allclose(
                actual[name], expected, rtol=0 if exact else 1e-14, atol=0 if exact else 1e-15, err_msg=name
            )


def test_update_equals_sgd_exactly() -> None:
    """η is a power of two, so that the step rounds once, in the subtraction, on either side."""
    values = step_by_autograd(2)
    for name, weights in (("W1", W1), ("W2", W2)):
        gradient = values[f"grad_{name}"]
        expected = elementwise(lambda weight, slope: float(weight) - float(ETA) * slope, weights, gradient)
        assert values[f"{name}_new"].tolist() == expected


def folded(weight: torch.Tensor, bias: torch.Tensor) -> "np.ndarray[Any, Any]":
    """Bias as first row above the transposed weight: (1 + inputs, outputs)."""
    return torch.cat([bias[None], weight.T]).detach().numpy().copy()


@pytest.mark.parametrize("num_examples", [1, 2])
def test_the_projects_network_takes_the_same_step(num_examples: int) -> None:
    network = MLP(2, 2, depth=1, width=2, activation="relu", norm="none", dropout=0.0).double()
    linears: dict[str, Any] = {"W1": network.hidden[0].linear, "W2": network.output}
    with torch.no_grad():
        for name, linear in linears.items():
            linear.bias.copy_(torch.from_numpy(VALUES[name][0]))
            linear.weight.copy_(torch.from_numpy(VALUES[name][1:].T))
    examples = torch.tensor(X[:num_examples], dtype=torch.float64)[:, 1:]
    labels = torch.arange(num_examples)
    logits = network(examples)
    loss = nn.functional.cross_entropy(logits, labels)
    loss.backward()
    actual: dict[str, Any] = {"logits": logits.detach(), "loss": loss.item()}
    actual |= {f"grad_{name}": folded(linear.weight.grad, linear.bias.grad) for name, linear in linears.items()}
    torch.optim.SGD(network.parameters(), lr=float(ETA)).step()
    actual |= {f"{name}_new": folded(linear.weight, linear.bias) for name, linear in linears.items()}
    actual["loss_new"] = nn.functional.cross_entropy(network(examples), labels).item()
    for name, value in actual.items():
        expected = VALUES[name if num_examples == 1 else NAME_FOR_TWO[name]]
        exact = name == "logits"
        np.testing.assert_allclose(
            value, expected, rtol=0 if exact else 1e-14, atol=0 if exact else 1e-15, err_msg=name
        )


def test_the_code_on_the_page_prints_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("python")
    exec(code, {})  # noqa: S102
    assert capsys.readouterr().out == blocks("text")[-1]
