"""Every judgement appears where it must and not where it must not."""

import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from project.data.settings import DataSettings
from project.data.sources.load import load_dataset
from project.diagnosis.before_training import Diagnosis, diagnose
from project.diagnosis.judgement.data import judge_data
from project.diagnosis.judgement.findings import Finding, combined_remedy, verdict
from project.diagnosis.judgement.network import judge_network
from project.diagnosis.judgement.remedies import usual_init
from project.diagnosis.judgement.thresholds import Threshold, thresholds
from project.diagnosis.judgement.training import judge_training
from project.diagnosis.probe import DataSummary, Probe, probe
from project.diagnosis.theory import initial_loss
from project.network.activations import ACTIVATIONS
from project.network.mlp import MLP
from project.training.settings import ModelSettings

FEATURES, CLASSES = 64, 10
CHANCE = initial_loss(CLASSES)


def pictures(examples: int = 256, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Standardized inputs whose pixels hang together as a picture's do: few directions hold most of the variance."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(FEATURES, FEATURES, generator=generator) * 0.8 ** torch.arange(FEATURES)[:, None]
    x = torch.randn(examples, FEATURES, generator=generator) @ directions
    return (x - x.mean()) / x.std(), torch.randint(CLASSES, (examples,), generator=generator)


def settings(**model: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "depth": 2,
        "width": 256,
        "activation": "relu",
        "init": "auto",
        "init_scale": 1.0,
        "init_bias": 0.0,
        "norm": "none",
        "dropout": 0.0,
        "learning_rate": 0.001,
        "schedule": "constant",
    }
    return {f"model.{name}": value for name, value in (usual | model).items()}


def network(seed: int = 0, **model: Any) -> MLP:
    torch.manual_seed(seed)
    names = ("depth", "width", "activation", "init", "init_scale", "init_bias", "norm", "dropout")
    return MLP(FEATURES, CLASSES, **{name: settings(**model)[f"model.{name}"] for name in names})


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


@pytest.mark.parametrize(
    "activation", ["tanh", "gelu", "selu", "swish", "elu", "leaky_relu", "prelu", "softplus", "softsign", "mish"]
)
def test_every_usual_activation_is_healthy_at_usual_depth(activation: str) -> None:
    assert examine(depth=3, activation=activation).findings == []
    assert examine(depth=3, activation=activation, norm="batch").findings == []


def test_the_default_network_of_the_command_line_is_healthy() -> None:
    torch.manual_seed(0)
    mlp = MLP(784, 10, depth=2, width=512, norm="batch", dropout=0.2)
    x, y = torch.randn(256, 784), torch.randint(10, (256,))
    assert diagnose(mlp, x, y, F.cross_entropy, settings(width=512, norm="batch", dropout=0.2), CHANCE).findings == []


def test_twenty_sigmoid_layers_make_gradients_vanish() -> None:
    diagnosis = examine(depth=20, activation="sigmoid", dropout=0.2)
    finding = only(diagnosis.findings, "vanishing_gradient")
    assert finding.severity == "severe"
    assert re.search(r"layer 1 gets \de-1\d of what layer 20 gets", finding.sentence)
    assert finding.remedy == [
        "--model.activation relu",
        "--model.init kaiming_normal",
        "--model.norm batch",
        "--model.dropout 0",
    ]
    assert diagnosis.depth_scale is not None
    assert diagnosis.depth_scale.trainable_depth is not None
    assert diagnosis.depth_scale.trainable_depth < 20
    assert diagnosis.predictions[0].gradient_ratio < 1e-9
    assert "collapsed_representation" in codes(diagnosis.findings)


@pytest.mark.parametrize("model", [{"depth": 3, "activation": "sigmoid"}, {"depth": 20, "activation": "relu"}])
def test_gradients_do_not_vanish_in_few_sigmoid_or_many_relu_layers(model: dict[str, Any]) -> None:
    assert not {"vanishing_gradient", "collapsed_representation"} & set(codes(examine(**model).findings))


def test_the_remedy_of_vanishing_gradients_heals_the_network() -> None:
    mended = examine(depth=20, activation="relu", init="kaiming_normal", norm="batch")
    assert "vanishing_gradient" not in codes(mended.findings)
    again = judge_network(
        examine(depth=20, activation="sigmoid").probe, settings(activation="relu", norm="batch"), trained=True
    )
    assert only(again, "vanishing_gradient").remedy == ["--model.depth 5"]  # nothing else is left to change


def test_batch_norm_is_said_to_be_what_holds_twenty_sigmoid_layers() -> None:
    findings = examine(depth=20, activation="sigmoid", norm="batch", dropout=0.2).findings
    assert "vanishing_gradient" not in codes(findings)
    note = only(findings, "norm_prevents_vanishing")
    assert note.severity == "note"
    assert "batch norm keeps gradients from vanishing" in note.sentence
    assert "norm_prevents_vanishing" not in codes(examine(depth=3, activation="sigmoid", norm="batch").findings)
    assert "norm_prevents_vanishing" not in codes(examine(depth=20, activation="relu", norm="batch").findings)


def test_large_weights_make_gradients_explode() -> None:
    finding = only(examine(depth=12, init_scale=3.0).findings, "exploding_gradient")
    assert finding.remedy == ["--model.init_scale 1", "--model.norm batch"]
    deep = only(examine(depth=60, width=128, norm="batch").findings, "exploding_gradient")
    assert deep.remedy == ["--model.norm layer"]
    assert "exploding_gradient" not in codes(examine(depth=12).findings)


def test_zero_weights_can_only_teach_the_last_bias() -> None:
    models: list[dict[str, Any]] = [{}, {"norm": "batch", "dropout": 0.2}, {"depth": 1, "activation": "tanh"}]
    for model in models:
        findings = examine(init="zeros", **model).findings
        assert codes(findings) == ["zero_weights"]
        assert "nothing but the last bias can learn" in findings[0].sentence
        assert findings[0].remedy == ["--model.init auto"]
    assert examine(init="zeros", depth=0).findings == []  # softmax regression learns from zero


def test_identical_units_stay_identical() -> None:
    findings = examine(init="zeros", activation="sigmoid").findings
    assert codes(findings) == ["identical_units"]
    assert "layers 1–2" in findings[0].sentence
    with_dropout = examine(init="zeros", activation="sigmoid", dropout=0.2).findings
    assert "only dropout can tell them apart" in with_dropout[0].sentence
    assert "identical_units" not in codes(examine(activation="sigmoid").findings)
    assert "identical_units" not in codes(examine(activation="sigmoid", width=1).findings)


@pytest.mark.parametrize("seed", range(5))
def test_narrow_deep_relu_networks_are_born_dead(seed: int) -> None:
    diagnosis = examine(seed, depth=20, width=3)
    finding = only(diagnosis.findings, "born_dead")
    assert diagnosis.born_dead_probability == pytest.approx(0.9, abs=0.05)
    assert f"{diagnosis.born_dead_probability:.0%} of networks of this shape" in finding.sentence
    assert {"--model.width 256", "--model.norm batch"} <= set(finding.remedy)
    dead = any(layer.dead_fraction == 1 for layer in diagnosis.probe.hidden)
    assert finding.severity == ("severe" if dead else "warning")


def test_wide_networks_and_leaky_ones_are_not_born_dead() -> None:
    assert "born_dead" not in codes(examine(depth=20).findings)
    assert "born_dead" not in codes(examine(depth=20, width=3, activation="leaky_relu").findings)
    normed = examine(depth=20, width=3, norm="batch")
    assert "born_dead" not in codes(normed.findings)
    assert only(normed.findings, "norm_prevents_born_dead").severity == "note"
    assert "norm_prevents_born_dead" not in codes(examine(norm="batch").findings)


def test_saturation_is_found_in_large_inputs_and_in_large_weights() -> None:
    raw = examine(scale=100.0, activation="tanh").findings
    finding = only(raw, "saturated_units")
    assert finding.sentence.startswith("tanh saturates in layer")
    assert finding.remedy == ["--data.normalization standardize"]
    weights = only(examine(activation="sigmoid", init_scale=20.0).findings, "saturated_units")
    assert "--model.init_scale 1" in weights.remedy
    assert "saturated_units" not in codes(examine(activation="tanh").findings)


def test_initial_loss_far_from_that_of_guessing() -> None:
    high = only(examine(scale=100.0).findings, "initial_loss")
    assert "a network that knows nothing gets 2.30" in high.sentence
    assert high.remedy == ["--data.normalization standardize"]
    large = only(examine(init_scale=3.0).findings, "initial_loss")
    assert "--model.init_scale 1" in large.remedy
    x, y = pictures()
    leak = torch.cat([x, 9.0 * F.one_hot(y, CLASSES)], dim=1)
    mlp = MLP(FEATURES + CLASSES, CLASSES, depth=0)
    with torch.no_grad():
        mlp.output.weight.copy_(F.pad(torch.eye(CLASSES), (FEATURES, 0)))
    low = diagnose(mlp, leak, y, F.cross_entropy, settings(depth=0), CHANCE).findings
    assert "leaked" in only(low, "initial_loss").sentence
    assert "initial_loss" not in codes(examine().findings)
    assert "initial_loss" not in codes(judge_network(examine(scale=100.0).probe, settings()))


def test_dropout_in_many_layers_drowns_the_signal() -> None:
    finding = only(examine(depth=20, norm="batch", dropout=0.2).findings, "deep_dropout")
    assert finding.remedy == ["--model.dropout 0"]
    assert "deep_dropout" not in codes(examine(depth=3, norm="batch", dropout=0.5).findings)
    assert "deep_dropout" not in codes(examine(depth=20, norm="batch").findings)


def probe_with_dead_units(share: float, layer: int = 0, **model: Any) -> Probe:
    mlp, (x, y) = network(**model), pictures()
    with torch.no_grad():
        bias = mlp.hidden[layer].linear.bias
        bias[: round(share * len(bias))] = -1e4
    return probe(mlp, x, y, F.cross_entropy)


def test_dead_units_are_reported_from_one_half() -> None:
    many = only(judge_network(probe_with_dead_units(0.6), settings(), trained=True), "dead_units")
    assert "layer 1" in many.sentence
    assert many.remedy == ["--model.activation leaky_relu", "--model.learning_rate 0.0001"]
    assert judge_network(probe_with_dead_units(0.3), settings(), trained=True) == []


def test_dying_units_are_reported_by_their_trend() -> None:
    probes = [probe_with_dead_units(share) for share in (0.0, 0.15, 0.35)]
    rising = only(judge_network(probes[2], settings(), trained=True, earlier=probes[:2]), "dying_units")
    assert re.search(r"rose from \d% to 3\d%", rising.sentence)
    assert judge_network(probes[1], settings(), trained=True, earlier=probes[:1]) == []
    assert judge_network(probes[0], settings(), trained=True, earlier=probes[::-1]) == []


def test_a_network_that_died_in_training() -> None:
    finding = only(judge_network(probe_with_dead_units(1.0, layer=1), settings(), trained=True), "dead_network")
    assert "layer 2 is silent" in finding.sentence
    assert "--model.activation leaky_relu" in finding.remedy
    assert "dead_network" not in codes(judge_network(probe_with_dead_units(0.9), settings(), trained=True))


def test_numbers_that_are_not_finite() -> None:
    mlp, (x, y) = network(), pictures()
    assert judge_network(probe(mlp, x, y, F.cross_entropy), settings(), trained=True) == []
    nn.init.constant_(mlp.hidden[1].linear.weight, float("inf"))
    findings = judge_network(probe(mlp, x, y, F.cross_entropy), settings(), trained=True)
    assert codes(findings) == ["not_finite"]
    assert findings[0].remedy == ["--model.learning_rate 0.0001"]


def history(
    train: Sequence[float],
    validation: Sequence[float] | None = None,
    accuracy: Sequence[float] | None = None,
    validation_accuracy: Sequence[float] | None = None,
) -> list[dict[str, float]]:
    columns = {
        "train/loss": train,
        "validation/loss": validation,
        "train/accuracy": accuracy,
        "validation/accuracy": validation_accuracy,
    }
    given = {name: values for name, values in columns.items() if values is not None}
    return [{name: values[i] for name, values in given.items()} for i in range(len(train))]


HEALTHY = history(
    [0.62, 0.43, 0.37, 0.33, 0.305, 0.29, 0.280, 0.272],
    [0.48, 0.41, 0.37, 0.35, 0.338, 0.333, 0.331, 0.330],
    [0.78, 0.85, 0.87, 0.88, 0.89, 0.895, 0.90, 0.903],
    [0.83, 0.85, 0.86, 0.87, 0.877, 0.880, 0.881, 0.882],
)


def judge(records: Sequence[dict[str, float]], status: str = "completed", **model: Any) -> list[Finding]:
    return judge_training(records, settings(**model), status, chance_accuracy=0.1, chance_loss=CHANCE)


def test_a_healthy_training_has_no_findings() -> None:
    assert judge(HEALTHY) == []
    assert judge([]) == []
    assert judge(history([0.5])) == []


def test_overfitting_by_the_loss_and_by_the_gap() -> None:
    records = history(
        [0.6, 0.4, 0.3, 0.2, 0.1, 0.05], [0.45, 0.38, 0.36, 0.38, 0.43, 0.5], [0.8] * 5 + [0.98], [0.85] * 5 + [0.89]
    )
    finding = only(judge(records), "overfitting")
    assert "risen by 39% since epoch 3" in finding.sentence
    assert "9.0% above" in finding.sentence
    assert finding.remedy == ["--model.dropout 0.2"]
    assert only(judge(records, dropout=0.2), "overfitting").remedy == ["--model.dropout 0.5"]
    assert only(judge(records, dropout=0.5), "overfitting").remedy == ["--data.augmentation shift"]
    assert "overfitting" not in codes(judge(HEALTHY))
    rising_together = history([0.3, 0.31, 0.32], [0.3, 0.32, 0.34])  # not overfitting: training gets worse as well
    assert "overfitting" not in codes(judge(rising_together))


def test_underfitting_asks_for_capacity() -> None:
    records = history(
        [0.60, 0.50, 0.47, 0.46, 0.459, 0.4585], [0.55, 0.48, 0.46, 0.457, 0.457, 0.457], [0.84] * 6, [0.84] * 6
    )
    assert only(judge(records, depth=0), "underfitting").remedy == ["--model.depth 2"]
    assert only(judge(records, activation="identity"), "underfitting").remedy == ["--model.activation relu"]
    assert only(judge(records, dropout=0.5), "underfitting").remedy == ["--model.dropout 0"]
    assert only(judge(records, width=64), "underfitting").remedy == ["--model.width 128"]
    assert "16.0% of the training examples" in only(judge(records), "underfitting").sentence
    # measured: softmax regression
    softmax = history(
        [0.998, 0.503, 0.453, 0.436, 0.421, 0.401, 0.388, 0.380],
        [0.556, 0.558, 0.460, 0.446, 0.440, 0.427, 0.423, 0.420],
        [0.8] * 7 + [0.868],
        [0.8] * 7 + [0.853],
    )
    assert codes(judge(softmax, depth=0)) == ["underfitting"]
    assert judge(softmax, depth=0, dropout=0.2)[0].remedy == ["--model.depth 2"]
    regression = history([0.5, 0.31, 0.302, 0.3, 0.299], [0.5, 0.33, 0.32, 0.31, 0.31])
    assert "at a loss of 0.299" in only(judge(regression), "underfitting").sentence
    assert "underfitting" not in codes(judge(HEALTHY))
    learned = history([0.1, 0.05, 0.04, 0.04, 0.04], [0.1, 0.05, 0.04, 0.04, 0.04], [0.99] * 5, [0.99] * 5)
    assert "underfitting" not in codes(judge(learned))


def test_learning_rate_too_high() -> None:
    rose = only(judge(history([0.9, 1.2, 2.0])), "learning_rate_high")
    assert "0.001 is too high: the training loss went up" in rose.sentence
    assert rose.remedy == ["--model.learning_rate 0.0001"]
    jumps = history([0.9, 0.5, 0.8, 0.4, 0.7])
    assert "jumped up 2 times" in only(judge(jumps), "learning_rate_high").sentence
    assert "learning_rate_high" not in codes(judge(jumps, schedule="cyclic"))
    # measured: adamw at 0.3
    spike = history([3.558, 0.838, 0.720, 0.672, 0.676, 0.622], [0.759, 0.755, 0.635, 0.620, 1.300, 0.798])
    assert codes(judge(spike)) == ["learning_rate_high"]
    assert "leapt to 1.3 and back" in judge(spike)[0].sentence
    fast = judge_training(HEALTHY, settings(), update_ratios=[0.2, 0.1, 0.3, None])
    assert "2.0e-01" in only(fast, "learning_rate_high").sentence
    assert judge_training(HEALTHY, settings(), update_ratios=[2e-3, 1e-3, None]) == []


def test_learning_rate_too_low() -> None:
    crawl = history([2.25, 2.18, 2.11, 2.05, 1.99], [2.2, 2.1, 2.0, 1.95, 1.9], [0.3] * 5, [0.3] * 5)
    finding = only(judge(crawl), "learning_rate_low")
    assert "straight line" in finding.sentence
    assert finding.remedy == ["--model.learning_rate 0.01"]
    # measured: plain gradient descent at 1e-5
    still = judge(history([2.636, 2.628, 2.630, 2.623, 2.618, 2.620], accuracy=[0.1] * 6))
    assert codes(still) == ["nothing_learned", "learning_rate_low"]
    assert combined_remedy(still) == ["--model.learning_rate 0.01"]
    slow = judge_training(HEALTHY, settings(), update_ratios=[1e-6, 2e-6, 1e-5])
    assert only(slow, "learning_rate_low").remedy == ["--model.learning_rate 0.01"]
    assert "learning_rate_low" not in codes(judge(HEALTHY))


def test_a_plateau_is_only_one_at_a_constant_rate() -> None:
    records = history([0.9, 0.7, 0.601, 0.600, 0.5995, 0.599], [1.0, 0.8, 0.7, 0.7, 0.69, 0.69], [0.8] * 6, [0.78] * 6)
    finding = only(judge(records), "plateau")
    assert "last 2 epochs, at 0.599" in finding.sentence
    assert finding.remedy == ["--model.schedule cosine"]
    assert "plateau" not in codes(judge(records, schedule="one_cycle"))
    assert "plateau" not in codes(judge(HEALTHY))


def test_nothing_learned() -> None:
    flat = history([2.303] * 3, [2.303] * 3, [0.1, 0.101, 0.1], [0.1] * 3)
    finding = judge(flat, activation="sigmoid", dropout=0.2)[0]
    assert finding.code == "nothing_learned"
    assert finding.remedy == [
        "--model.activation relu",
        "--model.init kaiming_normal",
        "--model.norm batch",
        "--model.dropout 0",
    ]
    both = judge(history([2.3, 5.0, 9.0], accuracy=[0.1] * 3))
    assert codes(both) == ["nothing_learned", "learning_rate_high"]
    assert combined_remedy(both) == ["--model.learning_rate 0.0001"]
    assert "nothing_learned" not in codes(judge(history([2.2, 2.0], accuracy=[0.15, 0.3])))
    unbalanced = judge_training(flat, settings(), chance_accuracy=0.05)
    assert "nothing_learned" not in codes(unbalanced)


def test_divergence() -> None:
    assert codes(judge(history([0.5, float("nan")]))) == ["diverged"]
    finding = judge(HEALTHY, "diverged")[0]
    assert finding.severity == "severe"
    assert "in epoch 9" in finding.sentence
    assert finding.remedy == ["--model.learning_rate 0.0001"]
    assert "diverged" not in codes(judge(HEALTHY))


def test_length_of_training() -> None:
    stopped = only(judge(HEALTHY, "early_stopped"), "early_stopped")
    assert "after epoch 8: nothing was better than epoch 8" in stopped.sentence
    assert "early_stopped" not in codes(judge(HEALTHY))
    late = history([0.5, 0.3, 0.25, 0.24, 0.23, 0.22], [0.5, 0.4, 0.401, 0.402, 0.403, 0.404])
    too_long = only(judge(late), "too_many_epochs")
    assert "epoch was 2 of 6" in too_long.sentence
    assert too_long.remedy == ["--trainer.max_epochs 2"]
    assert "too_many_epochs" not in codes(judge(HEALTHY))
    short = only(judge(history([0.6, 0.45, 0.4], [0.5, 0.42, 0.38])), "too_few_epochs")
    assert short.remedy == ["--trainer.max_epochs 6"]
    assert "too_few_epochs" not in codes(judge(HEALTHY))
    assert "too_few_epochs" not in codes(judge(history([0.6, 0.45, 0.4]), "interrupted"))


def summary(**changes: Any) -> DataSummary:
    usual: dict[str, Any] = {
        "num_examples": 1000,
        "num_features": 784,
        "constant_feature_fraction": 0.0855,  # MNIST's
        "input_mean": 0.0,
        "input_sd": 1.0,
        "class_fractions": [0.1] * 10,
    }
    return DataSummary(**(usual | changes))


def test_healthy_data_have_no_findings() -> None:
    assert judge_data(summary()) == []
    assert judge_data(summary(class_fractions=[])) == []


def test_constant_features() -> None:
    finding = only(judge_data(summary(constant_feature_fraction=0.4)), "constant_features")
    assert finding.severity == "warning"
    assert "40%" in finding.sentence
    assert only(judge_data(summary(constant_feature_fraction=1.0)), "constant_features").severity == "severe"


def test_inputs_that_are_not_normalized() -> None:
    finding = only(judge_data(summary(input_mean=73.0, input_sd=90.0)), "inputs_not_normalized")
    assert "116" in finding.sentence
    assert finding.remedy == ["--data.normalization standardize"]
    assert judge_data(summary(input_mean=0.29, input_sd=0.35)) == []


def test_classes_missing_or_unbalanced() -> None:
    unbalanced = judge_data(summary(class_fractions=[0.94, 0.06]), class_names=["shirt", "bag"])
    assert "16 examples of shirt for one of bag" in only(unbalanced, "class_imbalance").sentence
    assert judge_data(summary(class_fractions=[0.8, 0.2])) == []
    missing = judge_data(summary(class_fractions=[0.5, 0.5, 0.0]))
    assert "class 2" in only(missing, "missing_class").sentence
    assert only(judge_data(summary(class_fractions=[1.0, 0.0])), "missing_class").severity == "severe"


def judgement_source() -> str:
    """The code of the whole wing, as one text."""
    files = sorted((ROOT / "project" / "diagnosis" / "judgement").glob("*.py"))
    assert len(files) >= 6
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def test_no_code_is_forgotten_here() -> None:
    """Every code that the module can give is named in this file, in a test that also says when it must not come."""
    source = judgement_source()
    own = Path(__file__).read_text(encoding="utf-8")
    known = set(re.findall(r'Finding\(\s*"(\w+)"', source))
    assert len(known) >= 25
    assert {code for code in known if f'"{code}"' not in own} == set()


def test_remedies_are_flags_of_the_command_line() -> None:
    """A remedy is worth nothing if it cannot be typed: every one above names a setting of the network or the data."""
    source = judgement_source()
    names = set(re.findall(r'"(?:--)?(model\.\w+|data\.\w+|trainer\.\w+)', source))
    model, data = ({setting.name for setting in fields(owner)} for owner in (ModelSettings, DataSettings))
    for name in names:
        group, _, setting = name.partition(".")
        assert group == "trainer" or setting in (model if group == "model" else data), name


def test_thresholds_have_reasons() -> None:
    found = thresholds()
    assert found["VANISHING_RATIO"].value == 1e-3
    for threshold in found.values():
        assert isinstance(threshold, Threshold)
        assert len(threshold.reason) > 30


def test_combined_remedy_lets_the_severer_finding_decide() -> None:
    findings = [
        Finding("a", "note", "", ["--model.width 8", "--model.norm batch"]),
        Finding("b", "severe", "", ["--model.width 256"]),
    ]
    assert combined_remedy(findings) == ["--model.width 256", "--model.norm batch"]
    assert combined_remedy([]) == []


def test_verdict_tells_what_happened_and_the_severest_finding() -> None:
    results = {
        "status": "early_stopped",
        "epochs": 12,
        "best": {"epoch": 7},
        "test/accuracy": 0.8912,
        "validation/accuracy": 0.9,
    }
    findings = [Finding("a", "note", "A note."), Finding("b", "warning", "It overfits.", ["--model.dropout 0.5"])]
    happened = "Early stopped after 12 epochs: test accuracy 89.12%, validation accuracy 90.00% (best epoch 7)."
    assert verdict(findings, results) == f"{happened} It overfits. Try --model.dropout 0.5."
    cause = [Finding("c", "severe", "It learned nothing."), Finding("n", "note", "N.", ["--x 1"]), findings[1]]
    assert verdict(cause, results) == f"{happened} It learned nothing. It overfits. Try --model.dropout 0.5."
    assert verdict([], results) == f"{happened} Nothing stands out."
    assert verdict([], {"status": "completed", "epochs": 1, "test/rmse": 3.14159}) == (
        "Completed after 1 epoch: test rmse 3.142. Nothing stands out."
    )


def test_auto_is_no_remedy_where_it_would_change_nothing() -> None:
    for activation, row in ACTIVATIONS.items():
        assert "model.init" not in usual_init(settings(activation=activation, init=row.init))
        assert usual_init(settings(activation=activation, init="orthogonal"))["model.init"] == "auto"
    assert usual_init({"model.init": "kaiming_normal"}) == {"model.init": "auto"}


@pytest.mark.slow
def test_the_remedy_for_twenty_sigmoid_layers_trains(real_data: Path) -> None:
    """Typed as it stands, beside the defaults, it reaches 0.85 on FashionMNIST in three epochs."""
    data = load_dataset("fashion_mnist", real_data)
    x, y = data.train.images.flatten(1).float(), data.train.labels.long()
    x = (x - x.mean()) / x.std()
    x, y, held_x, held_y = x[:55000], y[:55000], x[55000:], y[55000:]
    model = settings(depth=20, activation="sigmoid", dropout=0.2, learning_rate=0.004)
    torch.manual_seed(0)
    sick = MLP(784, 10, depth=20, width=256, activation="sigmoid", norm="none", dropout=0.2)
    findings = diagnose(sick, held_x[:512], held_y[:512], F.cross_entropy, model, CHANCE).findings
    assert findings[0].code == "vanishing_gradient"
    for flag in combined_remedy(findings):
        name, value = flag.removeprefix("--").split()
        model[name] = float(value) if name == "model.dropout" else value
    names = ("depth", "width", "activation", "init", "norm", "dropout")
    mlp = MLP(784, 10, **{name: model[f"model.{name}"] for name in names})
    optimizer = torch.optim.AdamW(mlp.parameters(), 0.004, weight_decay=0.05)
    steps = 3 * (len(x) // 256)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.004, total_steps=steps, cycle_momentum=False)
    for step in range(steps):
        if step % (steps // 3) == 0:
            order = torch.randperm(len(x))
        batch = order[(step % (steps // 3)) * 256 :][:256]
        optimizer.zero_grad()
        F.cross_entropy(mlp(x[batch]), y[batch]).backward()
        optimizer.step()
        schedule.step()
    mlp.eval()
    with torch.no_grad():
        assert (mlp(held_x).argmax(1) == held_y).float().mean().item() >= 0.85
