"""A whole training is judged by evidence: each cause is named where it must be, and an unusual setting alone is not."""

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from project.diagnosis.judgement.data import DataSummary
from project.diagnosis.judgement.training import harm_of, is_lost, judge
from project.diagnosis.measurement.evidence import Evidence
from project.diagnosis.measurement.forces import Forces
from project.diagnosis.measurement.probe import Probe, probe
from project.network.mlp import MLP
from project.network.optimization.schedules import learning_rate_factor
from project.settings import flatten
from project.training.settings import ModelSettings

STEPS = 400


def measured(seed: int = 0, **model: Any) -> Probe:
    torch.manual_seed(seed)
    mlp = MLP(64, 10, **({"depth": 2, "width": 64, "norm": "none", "dropout": 0.0} | model))
    x, y = torch.randn(128, 64), torch.arange(128) % 10
    return probe(mlp, x, y, F.cross_entropy)


def forces(**changes: Any) -> list[Forces]:
    """What acted in a healthy training with adamw: the weights move by half a percent in each step.

    A learning rate that is not given becomes the schedule's.
    """
    usual = {
        "learning_rate": math.nan,
        "gradient_norm": 1.0,
        "kept_fraction": 1.0,
        "weight_gradient_norm": 1.0,
        "weight_norm": 30.0,
        "update_norm": 0.15,
        "largest_update_ratio": 0.006,
    }
    return [Forces(**(usual | changes), step=step) for step in range(0, STEPS, 40)]


def history(losses: Sequence[float], noisy_error: float = 0.12) -> list[dict[str, float]]:
    return [
        {
            "epoch": float(epoch),
            "steps": STEPS * (epoch + 1) / len(losses),
            "train/loss": loss,
            "train/accuracy": 1 - noisy_error,
            "validation/loss": 0.4,
            "validation/accuracy": 0.86,
        }
        for epoch, loss in enumerate(losses)
    ]


def evidence(model: dict[str, Any] | None = None, other: dict[str, Any] | None = None, **changes: Any) -> Evidence:
    """A healthy training on data like FashionMNIST, apart from the changes."""
    settings = ModelSettings(**(model or {}))
    usual: dict[str, Any] = {
        "settings": flatten({"model": dataclasses.asdict(settings)}) | {"data.batch_size": 128} | (other or {}),
        "status": "completed",
        "history": history([0.7, 0.45, 0.4, 0.35, 0.3]),
        "num_steps": STEPS,
        "num_train": 10_000,
        "num_validation": 5_000,
        "num_test": 10_000,
        "steps_per_epoch": 80,
        "num_classes": 10,
        "first": measured(),
        "last": measured(),
        "forces": forces(),
        "train_error": 0.088,
        "reference_error": 0.163,
        "chance_error": 0.9,
        "decided_classes": [0.1] * 10,
        "data": DataSummary(0.08, 0.0, 1.0, [0.1] * 10),
        "validation_error": 0.134,
        "test_error": 0.138,
    }
    made = usual | changes
    rate, schedule = made["settings"]["model.learning_rate"], made["settings"]["model.schedule"]
    warmup = made["settings"]["model.warmup_fraction"]
    made["forces"] = [
        dataclasses.replace(f, learning_rate=rate * learning_rate_factor(schedule, f.step, STEPS, 80, warmup))
        if math.isnan(f.learning_rate)
        else f
        for f in made["forces"]
    ]
    return Evidence(**made)


POOR: dict[str, Any] = {"train_error": 0.3, "validation_error": 0.31, "test_error": 0.31}
LOST: dict[str, Any] = {"train_error": 0.9, "validation_error": 0.9, "test_error": 0.9}
SGD: dict[str, Any] = {"optimizer": "sgd"}


def codes(e: Evidence) -> list[str]:
    return [finding.code for finding in judge(e) if finding.severity != "note"]


def test_a_healthy_training_is_left_alone() -> None:
    assert judge(evidence()) == []
    assert harm_of(evidence()) == 0


CAUSES: dict[str, tuple[Evidence, list[str]]] = {
    "learning_rate_high": (
        evidence({"learning_rate": 0.4}, forces=forces(largest_update_ratio=0.2), **POOR),
        ["--model.learning_rate 0.004"],
    ),
    "learning_rate_low": (
        evidence({"learning_rate": 4e-6}, forces=forces(update_norm=1e-4), **LOST),
        ["--model.learning_rate 0.004"],
    ),
    "momentum_long": (evidence({"momentum": 0.999}, **POOR), ["--model.momentum 0.9"]),
    "too_few_steps": (
        evidence(
            {"schedule": "constant"},
            {"data.batch_size": 5000},
            num_steps=10,
            history=[record | {"steps": 2.0 * (i + 1)} for i, record in enumerate(history([2.0, 1.5, 1.2, 1.0, 0.9]))],
            **POOR,
        ),
        ["--data.batch_size 128"],
    ),
    "clipping_tight": (
        evidence(SGD, {"trainer.gradient_clip_val": 1e-4}, forces=forces(kept_fraction=1e-4), **POOR),
        ["--trainer.gradient_clip_val null"],
    ),
    "warmup_long": (evidence({"warmup_fraction": 0.95}, **POOR), ["--model.warmup_fraction 0"]),
    "weight_decay_strong": (
        evidence({"optimizer": "adam", "weight_decay": 0.3}, forces=forces(weight_gradient_norm=0.01), **POOR),
        ["--model.weight_decay 0"],
    ),
    "dropout_strong": (
        evidence({"dropout": 0.9}, history=history([1.6, 1.4, 1.3], 0.5), **POOR),
        ["--model.dropout 0"],
    ),
    "label_smoothing_strong": (evidence({"label_smoothing": 0.95}, **POOR), ["--model.label_smoothing 0"]),
    "augmentation_strong": (
        evidence(None, {"data.augmentation": ["affine", "cutmix"]}, history=history([1.6, 1.5], 0.6), **POOR),
        ["--data.augmentation null"],
    ),
    "too_narrow": (evidence({"width": 2}, last=measured(width=2), **POOR), ["--model.width 512"]),
    "linear_network": (evidence({"activation": "identity"}, **POOR), ["--model.activation relu"]),
    "loss_unsuited": (evidence({"loss": "mae"}, **POOR), ["--model.loss auto"]),
    "inputs_not_normalized": (
        evidence(SGD, data=DataSummary(0.0, 73.0, 90.0, [0.1] * 10), **POOR),
        ["--data.normalization standardize"],
    ),
    "batch_small": (evidence(None, {"data.batch_size": 2}, **POOR), ["--data.batch_size 64"]),
    "few_examples": (
        evidence(None, {"data.num_train": 60}, num_train=60, train_error=0.0, validation_error=0.38, test_error=0.38),
        ["--data.num_train null"],
    ),
    "stopped_too_early": (
        evidence(None, {"patience": 1, "trainer.max_epochs": 30}, status="early_stopped", **POOR),
        ["--patience 10"],
    ),
    "zero_weights": (evidence({"init": "zeros"}, first=measured(init="zeros"), **LOST), ["--model.init auto"]),
    "identical_units": (
        evidence(
            {"init": "zeros", "activation": "sigmoid"}, first=measured(init="zeros", activation="sigmoid"), **LOST
        ),
        ["--model.init auto"],
    ),
    "init_bias": (
        evidence({"init_bias": -9.0, "norm": "none"}, first=measured(init_bias=-9.0), **LOST),
        ["--model.init_bias 0"],
    ),
    "init_large": (evidence({"init_scale": 30.0}, first=measured(init_scale=30.0), **POOR), ["--model.init_scale 1"]),
    "init_small": (
        evidence({"init_scale": 0.01, "norm": "none"}, first=measured(init_scale=0.01), **POOR),
        ["--model.init_scale 1"],
    ),
    "vanishing_gradient": (
        evidence(
            {"activation": "sigmoid", "depth": 10, "norm": "none", "dropout": 0.0},
            first=measured(activation="sigmoid", depth=10),
            **LOST,
        ),
        ["--model.activation relu", "--model.init kaiming_normal", "--model.norm batch"],
    ),
}


@pytest.mark.parametrize("code", CAUSES)
def test_the_cause_is_named_with_its_remedy(code: str) -> None:
    sick, remedy = CAUSES[code]
    finding = judge(sick)[0]
    assert (finding.code, finding.remedy) == (code, remedy)
    assert finding.severity == ("severe" if is_lost(sick) else "warning")


@pytest.mark.parametrize("code", sorted(set(CAUSES) - {"zero_weights", "identical_units", "few_examples"}))
def test_an_unusual_setting_that_did_no_harm_is_left_alone(code: str) -> None:
    sick, _ = CAUSES[code]
    well = {"train_error": 0.088, "validation_error": 0.134, "test_error": 0.138}
    assert code not in codes(dataclasses.replace(sick, **well))


def test_two_causes_are_both_named() -> None:
    both = evidence({"dropout": 0.9, "label_smoothing": 0.95}, history=history([2.0, 1.9], 0.6), **POOR)
    assert set(codes(both)) == {"dropout_strong", "label_smoothing_strong"}


def test_what_has_no_cause_among_the_settings_is_said_to_have_none() -> None:
    assert codes(evidence(**POOR)) == ["underfitting"]
    assert codes(evidence(**LOST)) == ["nothing_learned"]
    assert judge(evidence(**POOR))[0].remedy == []


def test_a_training_that_diverged() -> None:
    diverged = evidence({"learning_rate": 1.0}, last=dataclasses.replace(measured(), loss=float("nan")), **LOST)
    assert is_lost(diverged)
    assert codes(diverged)[0] == "learning_rate_high"


@pytest.mark.parametrize(("test_error", "severity"), [(0.138, None), (0.16, None), (0.25, "warning"), (0.9, "severe")])
def test_a_test_set_that_is_not_like_validation(test_error: float, severity: str | None) -> None:
    found = [f.severity for f in judge(evidence(test_error=test_error)) if f.code == "test_differs"]
    assert found == ([severity] if severity else [])


def curve(*errors: float) -> list[dict[str, float]]:
    """A history with these validation errors and losses that fall with them."""
    records = history([0.5] * len(errors))
    return [r | {"validation/accuracy": 1 - e, "validation/loss": 3 * e} for r, e in zip(records, errors, strict=True)]


@pytest.mark.parametrize(
    ("errors", "status", "found"),
    [
        ([0.2, 0.15, 0.134, 0.134], "early_stopped", [("early_stopped", [])]),
        ([0.2, 0.16, 0.134], "completed", [("too_few_epochs", ["--trainer.max_epochs 6"])]),
        # more epochs would help, but the time was up
        ([0.2, 0.16, 0.134], "out_of_time", [("out_of_time", [])]),
        ([0.2, 0.134, 0.16, 0.17], "completed", [("overfitting", [])]),
        ([0.2, 0.134, 0.138, 0.136], "completed", []),  # no more than noise
    ],
)
def test_the_length_of_the_training(errors: list[float], status: str, found: list[tuple[str, list[str]]]) -> None:
    findings = judge(evidence(history=curve(*errors), status=status))
    assert [(finding.code, finding.remedy) for finding in findings] == found
    assert all(finding.severity == "note" for finding in findings)


def test_a_learning_rate_that_a_callback_changed() -> None:
    sick = evidence({"schedule": "constant"}, forces=forces(learning_rate=0.4, largest_update_ratio=0.2), **POOR)
    assert sick.learning_rate == pytest.approx(0.4)
    assert codes(sick) == ["learning_rate_high"]


def probe_with_dead_units(share: float) -> Probe:
    torch.manual_seed(0)
    mlp = MLP(64, 10, depth=2, width=64, norm="none", dropout=0.0)
    with torch.no_grad():
        mlp.hidden[1].linear.bias[: round(share * 64)] = -1e4
    return probe(mlp, torch.randn(128, 64), torch.arange(128) % 10, F.cross_entropy)


@pytest.mark.parametrize(("share", "found"), [(0.1, []), (0.45, ["dying_units"]), (0.6, ["dead_units", "dying_units"])])
def test_units_that_died_are_worth_a_note(share: float, found: list[str]) -> None:
    findings = judge(evidence(last=probe_with_dead_units(share)))
    assert [finding.code for finding in findings] == found
    assert all(finding.severity == "note" for finding in findings)


def test_a_network_that_died_is_named_where_no_setting_explains_it() -> None:
    assert codes(evidence(last=probe_with_dead_units(1.0), **LOST)) == ["dead_network"]


def test_evidence_is_plain_data() -> None:
    e = evidence()
    again = Evidence.from_dict(json.loads(json.dumps(e.to_dict())))
    assert judge(again) == judge(e)


def test_measures_by_hand() -> None:
    e = evidence({"optimizer": "momentum", "learning_rate": 0.1, "momentum": 0.99, "weight_decay": 0.02})
    row = e.row
    assert e.rate_ratio == pytest.approx(0.1 / row.learning_rate * (1 - row.momentum) / 0.01)
    assert e.path == pytest.approx(0.15 / 30 * STEPS)
    assert e.decay_pull == pytest.approx(0.02 * 30 / 1.0)
    decoupled = evidence({"weight_decay": 0.5, "schedule": "constant", "learning_rate": 0.002})
    assert decoupled.decay_pull == pytest.approx(0.002 * 0.5 * 30 / 0.15)
    assert decoupled.shrinkage == pytest.approx(0.002 * 0.5 * STEPS)
    assert evidence(SGD, forces=forces(kept_fraction=0.01)).kept_fraction == pytest.approx(0.01)
    assert evidence(forces=forces(kept_fraction=0.01)).kept_fraction == 1  # adaptive steps do not see it
