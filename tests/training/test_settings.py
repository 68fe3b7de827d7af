"""The model's settings: the same defaults as the network's, and a refusal for what makes none."""

import inspect
from dataclasses import asdict, fields
from typing import Any

import pytest

from project.errors import InputError
from project.network.mlp import MLP
from project.network.optimization.optimizers import OPTIMIZERS
from project.training.settings import ModelSettings


def test_the_network_alone_has_the_same_defaults() -> None:
    ours = {setting.name: setting.default for setting in fields(ModelSettings)}
    sizes, parameters = ("in_features", "out_features"), inspect.signature(MLP).parameters
    assert {name: ours[name] for name in parameters if name not in sizes} == {
        name: parameter.default for name, parameter in parameters.items() if name not in sizes
    }
    assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in parameters if name not in sizes)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_auto_becomes_the_numbers_of_the_optimizers_row(optimizer: str) -> None:
    row, settings = OPTIMIZERS[optimizer], ModelSettings(optimizer=optimizer)
    assert settings.optimizer_numbers == (row.learning_rate, row.momentum, row.weight_decay)
    assert asdict(settings)["learning_rate"] == row.learning_rate
    given = ModelSettings(optimizer=optimizer, learning_rate=0.123, weight_decay=0.0)
    assert given.optimizer_numbers == (0.123, row.momentum, 0.0)


def test_the_default_run_has_its_old_numbers() -> None:
    assert ModelSettings().optimizer == "adamw"
    assert ModelSettings().optimizer_numbers == (0.004, 0.9, 0.05)


@pytest.mark.parametrize(
    "wrong",
    [
        {"activation": "rely"},
        {"depth": 10**9},
        {"depth": -1},
        {"width": [3], "depth": 2},
        {"dropout": 1.0},
        {"activation_parameter": 0.1},
        {"loss": "hinge", "label_smoothing": 0.1},
        {"task": "regression", "loss": "cross_entropy"},
        {"optimizer": "muon", "depth": 0},
        {"warmup_fraction": 1.0},
    ],
)
def test_what_makes_no_network_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        ModelSettings(**wrong)
    assert caught.value.remedy
