"""Every finding appears where it must and not where it must not, with the remedy that helps."""

import ast
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from project.data.settings import DataSettings
from project.diagnosis.before_training import Diagnosis, diagnose
from project.diagnosis.judgement.data import DataSummary, judge_data, summarise_data
from project.diagnosis.judgement.findings import Finding, combined_remedy
from project.diagnosis.judgement.network import judge_network
from project.diagnosis.judgement.remedies import usual_init
from project.diagnosis.measurement.probe import probe
from project.network.activations import ACTIVATIONS
from project.network.mlp import MLP
from project.training.settings import ModelSettings

FEATURES, CLASSES = 64, 10
CHANCE = float(np.log(CLASSES))
FOLDER = ROOT / "project" / "diagnosis" / "judgement"
RELU = ["--model.activation relu", "--model.init kaiming_normal"]
BATCH, NO_DROPOUT, USUAL_SCALE = "--model.norm batch", "--model.dropout 0", "--model.init_scale 1"
STANDARDIZE = "--data.normalization standardize"
SIGMOID: dict[str, Any] = {"depth": 20, "activation": "sigmoid"}
USUAL: dict[str, Any] = {
    "depth": 2,
    "width": 256,
    "activation": "relu",
    "init": "auto",
    "init_scale": 1.0,
    "init_bias": 0.0,
    "norm": "none",
    "dropout": 0.0,
}


def pictures(examples: int = 256, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Standardized inputs with related pixels, as a picture has them: few directions hold most of the variance."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(FEATURES, FEATURES, generator=generator) * 0.8 ** torch.arange(FEATURES)[:, None]
    x = torch.randn(examples, FEATURES, generator=generator) @ directions
    return (x - x.mean()) / x.std(), torch.randint(CLASSES, (examples,), generator=generator)


def settings(**model: Any) -> dict[str, Any]:
    usual = USUAL | {"learning_rate": 0.001, "schedule": "constant"}
    return {f"model.{name}": value for name, value in (usual | model).items()}


def network(seed: int = 0, **model: Any) -> MLP:
    torch.manual_seed(seed)
    return MLP(FEATURES, CLASSES, **(USUAL | model))


def examine(seed: int = 0, scale: float = 1.0, **model: Any) -> Diagnosis:
    x, y = pictures()
    return diagnose(network(seed, **model), scale * x, y, F.cross_entropy, settings(**model), CHANCE)


def codes(findings: Sequence[Finding]) -> list[str]:
    return [finding.code for finding in findings]


def only(findings: Sequence[Finding], code: str) -> Finding:
    (found,) = [finding for finding in findings if finding.code == code]
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("depth", [0, 1, 2, 5])
def test_a_healthy_network_has_no_findings(depth: int, norm: str, seed: int) -> None:
    assert examine(seed, depth=depth, width=256, norm=norm, dropout=0.2).findings == []


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize(
    "activation", ["tanh", "gelu", "selu", "swish", "elu", "leaky_relu", "prelu", "softplus", "softsign", "mish"]
)
def test_every_usual_activation_is_healthy_at_usual_depth(activation: str, norm: str) -> None:
    assert examine(depth=3, activation=activation, norm=norm).findings == []


@pytest.mark.parametrize(
    ("network_and_scale", "code", "severity", "remedy"),
    [
        (SIGMOID | {"dropout": 0.2}, "vanishing_gradient", "severe", [*RELU, BATCH, NO_DROPOUT]),
        (SIGMOID | {"dropout": 0.2}, "collapsed_representation", "warning", [*RELU, BATCH, NO_DROPOUT]),
        (SIGMOID | {"norm": "batch", "dropout": 0.2}, "norm_prevents_vanishing", "note", [*RELU, NO_DROPOUT]),
        ({"depth": 12, "init_scale": 3.0}, "exploding_gradient", "severe", [USUAL_SCALE, BATCH]),
        ({"depth": 60, "width": 128, "norm": "batch"}, "exploding_gradient", "severe", ["--model.norm layer"]),
        ({"depth": 20, "width": 3, "norm": "batch"}, "norm_prevents_born_dead", "note", ["--model.width 256"]),
        ({"init": "zeros"}, "zero_weights", "severe", ["--model.init auto"]),
        ({"init": "zeros", "norm": "batch", "dropout": 0.2}, "zero_weights", "severe", ["--model.init auto"]),
        ({"init": "zeros", "depth": 1, "activation": "tanh"}, "zero_weights", "severe", ["--model.init auto"]),
        ({"init": "zeros", "activation": "sigmoid"}, "identical_units", "severe", ["--model.init auto"]),
        ({"scale": 100.0, "activation": "tanh"}, "saturated_units", "warning", [STANDARDIZE]),
        ({"init_scale": 20.0, "activation": "sigmoid"}, "saturated_units", "warning", [USUAL_SCALE, BATCH]),
        ({"scale": 100.0}, "initial_loss", "warning", [STANDARDIZE]),
        ({"init_scale": 3.0}, "initial_loss", "warning", [USUAL_SCALE, BATCH]),
        ({"depth": 20, "norm": "batch", "dropout": 0.2}, "deep_dropout", "warning", [NO_DROPOUT]),
    ],
)
def test_what_is_wrong_is_found(network_and_scale: dict[str, Any], code: str, severity: str, remedy: list[str]) -> None:
    findings = examine(**network_and_scale).findings
    found = only(findings, code)
    assert (found.severity, found.remedy) == (severity, remedy)
    if code in ("zero_weights", "identical_units"):
        assert len(findings) == 1  # all else follows from it


@pytest.mark.parametrize(
    ("model", "absent"),
    [
        ({"depth": 3, "activation": "sigmoid"}, {"vanishing_gradient", "collapsed_representation"}),
        ({"depth": 20}, {"vanishing_gradient", "collapsed_representation", "born_dead"}),
        ({"depth": 20, "init": "kaiming_normal", "norm": "batch"}, {"vanishing_gradient", "norm_prevents_vanishing"}),
        (SIGMOID | {"norm": "batch"}, {"vanishing_gradient", "deep_dropout"}),
        ({"depth": 3, "activation": "sigmoid", "norm": "batch"}, {"norm_prevents_vanishing"}),
        ({"depth": 12}, {"exploding_gradient"}),
        ({"init": "zeros", "depth": 0}, {"zero_weights"}),  # softmax regression learns from zero
        ({"activation": "sigmoid"}, {"identical_units"}),
        ({"activation": "sigmoid", "width": 1}, {"identical_units"}),
        ({"depth": 20, "width": 3, "activation": "leaky_relu"}, {"born_dead"}),
        ({"depth": 20, "width": 3, "norm": "batch"}, {"born_dead"}),
        ({"norm": "batch"}, {"norm_prevents_born_dead"}),
        ({"activation": "tanh"}, {"saturated_units"}),
        ({}, {"initial_loss"}),
        ({"depth": 3, "norm": "batch", "dropout": 0.5}, {"deep_dropout"}),
    ],
)
def test_what_is_not_wrong_is_not_found(model: dict[str, Any], absent: set[str]) -> None:
    assert not absent & set(codes(examine(**model).findings))


def test_theory_expects_vanishing_gradients_too() -> None:
    diagnosis = examine(**SIGMOID)
    assert diagnosis.depth_scale.trainable_depth < 20
    assert diagnosis.predictions[0].gradient_ratio < 1e-9
    # where nothing else is left to change, fewer layers remain
    again = judge_network(diagnosis.probe, settings(activation="relu", norm="batch"))
    assert only(again, "vanishing_gradient").remedy == ["--model.depth 5"]


@pytest.mark.parametrize("seed", range(5))
def test_narrow_deep_relu_networks_are_born_dead(seed: int) -> None:
    diagnosis = examine(seed, depth=20, width=3)
    finding = only(diagnosis.findings, "born_dead")
    assert diagnosis.born_dead_probability == pytest.approx(0.9, abs=0.05)
    assert {"--model.width 256", BATCH} <= set(finding.remedy)
    dead = any(layer.dead_fraction == 1 for layer in diagnosis.probe.hidden)
    assert finding.severity == ("severe" if dead else "warning")


def test_labels_in_the_inputs_make_the_initial_loss_too_low() -> None:
    x, y = pictures()
    leak = torch.cat([x, 9.0 * F.one_hot(y, CLASSES)], dim=1)
    mlp = MLP(FEATURES + CLASSES, CLASSES, depth=0)
    with torch.no_grad():
        mlp.output.weight.copy_(F.pad(torch.eye(CLASSES), (FEATURES, 0)))
    low = diagnose(mlp, leak, y, F.cross_entropy, settings(depth=0), CHANCE)
    assert low.probe.loss < CHANCE
    assert only(low.findings, "initial_loss").remedy == []
    without_chance = judge_network(examine(scale=100.0).probe, settings())
    assert "initial_loss" not in codes(without_chance)


def test_numbers_that_are_not_finite() -> None:
    mlp, (x, y) = network(), pictures()
    nn.init.constant_(mlp.hidden[1].linear.weight, float("inf"))
    findings = judge_network(probe(mlp, x, y, F.cross_entropy), settings())
    assert codes(findings) == ["not_finite"]


def summary(**changes: Any) -> DataSummary:
    # constant features as MNIST has them
    usual = {"constant_feature_fraction": 0.0855, "input_mean": 0.0, "input_sd": 1.0, "class_fractions": [0.1] * 10}
    return DataSummary(**(usual | changes))


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, []),
        ({"class_fractions": []}, []),
        ({"constant_feature_fraction": 0.4}, [("constant_features", "warning", [])]),
        ({"constant_feature_fraction": 1.0}, [("constant_features", "severe", [])]),
        ({"input_mean": 73.0, "input_sd": 90.0}, [("inputs_not_normalized", "warning", [STANDARDIZE])]),
        ({"input_mean": 0.29, "input_sd": 0.35}, []),
        ({"class_fractions": [0.94, 0.06]}, [("class_imbalance", "warning", [])]),
        ({"class_fractions": [0.8, 0.2]}, []),
        ({"class_fractions": [0.5, 0.5, 0.0]}, [("missing_class", "warning", [])]),
        ({"class_fractions": [1.0, 0.0]}, [("missing_class", "severe", [])]),
    ],
)
def test_findings_about_the_data(changes: dict[str, Any], found: list[tuple[str, str, list[str]]]) -> None:
    assert [(f.code, f.severity, f.remedy) for f in judge_data(summary(**changes))] == found


def test_summarise_data_by_hand() -> None:
    inputs = torch.tensor([[[0.0, 1.0]], [[0.0, 3.0]], [[0.0, 5.0]], [[0.0, 7.0]]])
    found = summarise_data(inputs, [0.25, 0.75])
    assert (found.constant_feature_fraction, found.input_mean, found.class_fractions) == (0.5, 2, [0.25, 0.75])
    assert found.input_sd == pytest.approx(np.std([0, 0, 0, 0, 1, 3, 5, 7]))


def judgement_source() -> str:
    """The code of the whole folder, as one text."""
    files = sorted(FOLDER.glob("*.py"))
    assert len(files) >= 6
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def test_no_code_is_forgotten_here() -> None:
    """Every code that the judgement can give is named in this file, which also says when it must not come."""
    own = "".join(file.read_text(encoding="utf-8") for file in Path(__file__).parent.glob("test_*.py"))
    known = set(re.findall(r'Finding\(\s*"(\w+)"', judgement_source()))
    assert len(known) >= 25
    assert {code for code in known if f'"{code}"' not in own} == set()


def test_remedies_are_flags_of_the_command_line() -> None:
    """A remedy must be possible to type: each one names a setting of the network or the data."""
    names = set(re.findall(r'"(?:--)?(model\.\w+|data\.\w+|trainer\.\w+)', judgement_source()))
    model, data = ({setting.name for setting in fields(owner)} for owner in (ModelSettings, DataSettings))
    assert len(names) >= 10
    for name in names:
        group, _, setting = name.partition(".")
        assert group == "trainer" or setting in (model if group == "model" else data), name


def test_every_threshold_has_its_reason_below_it() -> None:
    _, *statements = ast.parse((FOLDER / "thresholds.py").read_text(encoding="utf-8")).body
    assert len(statements) >= 60
    for threshold, reason in zip(statements[::2], statements[1::2], strict=True):
        assert isinstance(threshold, ast.Assign)
        assert isinstance(reason, ast.Expr)
        assert len(ast.literal_eval(reason.value)) > 30


def test_combined_remedy_lets_the_more_severe_finding_decide() -> None:
    findings = [
        Finding("a", "note", "", ["--model.width 8", BATCH]),
        Finding("b", "severe", "", ["--model.width 256"]),
    ]
    assert combined_remedy(findings) == ["--model.width 256", BATCH]
    assert combined_remedy([]) == []


def test_auto_is_no_remedy_where_it_would_change_nothing() -> None:
    for activation, row in ACTIVATIONS.items():
        assert "model.init" not in usual_init(settings(activation=activation, init=row.init))
        assert usual_init(settings(activation=activation, init="orthogonal"))["model.init"] == "auto"
    assert usual_init({"model.init": "kaiming_normal"}) == {"model.init": "auto"}
