"""The callback that looks inside while training, against hand calculations, and that it changes nothing."""

import io
import math
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, make_idx_folder, write_idx
from hypothesis import given, settings
from hypothesis import strategies as st
from inspected import Run, build
from pytorch_lightning import Callback, LightningModule, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from project.data.loaders import spread
from project.diagnosis.measurement.examples import chance_loss, layer_tags, probe_examples
from project.diagnosis.observers import DiagnosticsSettings
from project.errors import InputError
from project.task import DataSpec


def scalars_of(run: Run, tag: str) -> dict[int, float]:
    found = run.events().Scalars(tag)
    steps = [event.step for event in found]
    assert len(set(steps)) == len(steps), f"{tag} is there twice at a step"
    return {event.step: event.value for event in found}


class Weights(Callback):
    """The first hidden layer's weights before each step, and after the last."""

    def __init__(self) -> None:
        self.before: list[torch.Tensor] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.before.append(pl_module.network.layers()[0].weight.detach().clone())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.on_train_batch_start(trainer, pl_module, None, 0)


@pytest.mark.parametrize(
    ("every", "steps"),
    # steps 0, 3, 6 and 9, and the last of each epoch of 6; or all, of which an epoch's last has one value, not two
    [(3, [0, 3, 5, 6, 9, 11]), (1, list(range(12)))],
)
def test_probes_every_n_steps_and_at_epoch_ends(idx_folder: Path, tmp_path: Path, every: int, steps: list[int]) -> None:
    run = build(idx_folder, tmp_path / "run", every_n_steps=every).fit()
    assert run.trainer.global_step == 12
    assert run.diagnostics.steps == steps
    for tag in ("layer_gradient_norm_log10/hidden_01", "diagnostics/probe_loss", "layer_dead_fraction/hidden_02"):
        assert list(scalars_of(run, tag)) == steps
    assert list(scalars_of(run, "layer_effective_rank/hidden_01")) == [5, 11]
    assert list(scalars_of(run, "layer_update_ratio_log10/output")) == list(range(0, 12, every))


def test_first_probe_is_of_the_initial_network(idx_folder: Path, tmp_path: Path) -> None:
    run = build(idx_folder, tmp_path / "run", model={"norm": "none", "activation": "tanh"})
    inputs, labels = probe_examples(run.module, run.datamodule)
    first, second, output = (*(layer.linear for layer in run.module.network.hidden), run.module.network.output)
    with torch.no_grad():
        z1 = inputs @ first.weight.T + first.bias
        z2 = z1.tanh() @ second.weight.T + second.bias
        logits = z2.tanh() @ output.weight.T + output.bias
    expected = {
        "layer_pre_activation_sd/hidden_01": float(z1.std()),
        "layer_activation_mean/hidden_02": float(z2.tanh().mean()),
        # tanh' = 1 − tanh² is below 5 % of its largest value, 1
        "layer_saturated_fraction/hidden_01": float((1 - z1.tanh() ** 2 < 0.05).float().mean()),
        "layer_weight_norm/output": float((output.weight.detach() ** 2).sum().sqrt()),
        "diagnostics/probe_loss": float(F.cross_entropy(logits, labels)),
    }
    # (softmax − one-hot)/n is the mean loss's gradient at the logits; one example's own is n times that
    residual = logits.softmax(1) - F.one_hot(labels, 3)
    expected["layer_gradient_norm_log10/output"] = float(residual.square().sum(1).mean().sqrt().log10())
    run.fit()
    for tag, value in expected.items():
        assert scalars_of(run, tag)[0] == pytest.approx(value, rel=1e-4), tag


@pytest.mark.parametrize(("activation", "bounded"), [("sigmoid", True), ("relu", False)])
def test_bounded_activations_report_saturation_and_the_others_silence(
    idx_folder: Path, tmp_path: Path, activation: str, bounded: bool
) -> None:
    run = build(idx_folder, tmp_path / "run", model={"activation": activation}, max_epochs=1).fit()
    groups = {tag.split("/")[0] for tag in run.events().Tags()["scalars"]}
    assert ("layer_saturated_fraction" in groups, "layer_dead_fraction" in groups) == (bounded, not bounded)


@pytest.mark.parametrize("parts", [1, 2])
def test_update_ratio_is_the_change_of_the_weights_in_that_step(idx_folder: Path, tmp_path: Path, parts: int) -> None:
    """With accumulated parts, a step has several backward passes, and the ratio is of all of them together."""
    spy = Weights()
    run = build(idx_folder, tmp_path / "run", callbacks=(spy,), accumulate_grad_batches=parts).fit()
    assert run.trainer.global_step == 12
    assert run.diagnostics.steps == [0, 3, 5, 6, 9, 11]
    found = scalars_of(run, "layer_update_ratio_log10/hidden_01")
    for step in (0, 3, 6, 9):
        before, after = spy.before[parts * step], spy.before[parts * (step + 1)]
        assert found[step] == pytest.approx(float(((after - before).norm() / before.norm()).log10()), rel=1e-5)


@pytest.mark.parametrize(("clip", "algorithm"), [(None, "norm"), (0.05, "norm"), (0.002, "value")])
def test_forces_are_those_of_the_step(idx_folder: Path, tmp_path: Path, clip: float | None, algorithm: str) -> None:
    """With plain gradient descent the change is learning rate × (clipped gradient + decay × weight), by hand."""
    spy = Weights()
    model = {"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 0.5, "depth": 0, "norm": "none", "dropout": 0.0}
    run = build(
        idx_folder,
        tmp_path / "run",
        model=model,
        callbacks=(spy,),
        gradient_clip_val=clip,
        gradient_clip_algorithm=algorithm,
    ).fit()
    forces = run.diagnostics.forces
    assert [each.step for each in forces] == list(range(12))  # fewer than are sampled at most
    for each in forces:
        before, after = spy.before[each.step], spy.before[each.step + 1]
        assert each.weight_norm == pytest.approx(float(before.norm()), rel=1e-5)
        assert each.update_norm == pytest.approx(float((after - before).norm()), rel=1e-4)
        assert each.largest_update_ratio == pytest.approx(each.update_norm / each.weight_norm, rel=1e-5)
        assert each.learning_rate == 0.1
        used = float(((before - after) / 0.1 - 0.5 * before).norm())  # the gradient that was left
        if clip is None:
            assert (each.kept_fraction, used) == (1.0, pytest.approx(each.weight_gradient_norm, rel=1e-3))
        elif algorithm == "norm":
            expected = min(clip / each.gradient_norm, 1.0)
            assert each.kept_fraction == pytest.approx(expected, rel=1e-5)
            assert used == pytest.approx(expected * each.weight_gradient_norm, rel=1e-2)
        else:
            assert 0 < each.kept_fraction < 1


def test_training_is_the_same_with_and_without(idx_folder: Path, tmp_path: Path) -> None:
    """Dropout and augmentation draw random numbers, batch norm keeps running statistics: none may be touched."""
    watched = build(idx_folder, tmp_path / "watched", every_n_steps=2).fit()
    alone = build(idx_folder, tmp_path / "alone", diagnosed=False).fit()
    for (name, one), other in zip(watched.module.state_dict().items(), alone.module.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    assert watched.module.history == alone.module.history


def test_history_survives_a_checkpoint_as_plain_data(idx_folder: Path, tmp_path: Path) -> None:
    straight = build(idx_folder, tmp_path / "straight").fit()
    half = build(idx_folder, tmp_path / "half", max_epochs=1).fit()
    half.trainer.save_checkpoint(tmp_path / "half.ckpt")
    rest = build(idx_folder, tmp_path / "rest").fit(tmp_path / "half.ckpt")
    for name in ("steps", "gradient_norms", "forces", "evidence", "findings"):
        assert getattr(rest.diagnostics, name) == getattr(straight.diagnostics, name), name
    tags = straight.events().Tags()["scalars"]
    for tag in [tag for tag in tags if tag.startswith(("layer_", "diagnostics/"))]:
        both = scalars_of(half, tag) | scalars_of(rest, tag)
        assert both == scalars_of(straight, tag), tag
    # the resumed part introduces no run for a second time
    assert "pictures/sample_batch" not in rest.events().Tags()["images"]
    assert "2_network/text_summary" not in rest.events().Tags()["tensors"]
    stream = io.BytesIO()
    torch.save(straight.diagnostics.state_dict(), stream)
    stream.seek(0)
    assert torch.load(stream, weights_only=True)["steps"] == straight.diagnostics.steps


def test_vanishing_gradients_are_found_at_the_end(idx_folder: Path, tmp_path: Path) -> None:
    sick = {"activation": "sigmoid", "depth": 10, "norm": "none", "dropout": 0.0}
    run = build(idx_folder, tmp_path / "sick", model=sick).fit()
    assert "vanishing_gradient" in {finding.code for finding in run.diagnostics.findings}
    assert max(scalars_of(run, "diagnostics/gradient_ratio_log10").values()) < -3
    healthy = build(idx_folder, tmp_path / "healthy").fit()
    assert "vanishing_gradient" not in {finding.code for finding in healthy.diagnostics.findings}


def test_evidence_holds_the_errors_of_a_whole_run(idx_folder: Path, tmp_path: Path) -> None:
    """Training is measured as validation is, without dropout and augmentation, and the test set is judged too."""
    run = build(idx_folder, tmp_path / "run", data={"augmentation": ["affine", "erase"]}).fit()
    loader = run.datamodule.evaluation_loader("train")
    run.module.eval()
    with torch.no_grad():
        decided = run.module(loader.images[loader.indices]).argmax(1)
    wrong = float((decided != loader.targets).float().mean())
    evidence = run.diagnostics.evidence
    assert evidence is not None
    assert evidence.train_error == pytest.approx(wrong)
    assert (evidence.num_steps, evidence.num_train, evidence.num_test) == (12, 200, len(run.datamodule.splits["test"]))
    assert evidence.test_error is None
    run.test()
    assert run.diagnostics.evidence is not None
    assert run.diagnostics.evidence.test_error == pytest.approx(1 - float(run.module.metrics()["accuracy"]))


def test_data_are_judged_by_all_labels(tmp_path: Path) -> None:
    """1 of 200 training examples is of a rare class: unbalanced, but not missing."""
    folder = make_idx_folder(tmp_path / "data", num_train=200, num_classes=2)
    labels = np.zeros(200, dtype=np.uint8)
    labels[7] = 1
    write_idx(folder / "train-labels-idx1-ubyte", labels)
    run = build(folder, tmp_path / "run", data={"num_validation": 20}, max_epochs=1).fit()
    about_data = {"class_imbalance", "missing_class", "constant_features"}
    assert about_data & {finding.code for finding in run.diagnostics.findings} == {"class_imbalance"}


@pytest.mark.filterwarnings("ignore:Total length of `list`")
def test_without_validation_the_probe_uses_training_examples(idx_folder: Path, tmp_path: Path) -> None:
    run = build(idx_folder, tmp_path / "run", data={"num_validation": 0, "augmentation": None}, max_epochs=1).fit()
    inputs, _ = run.diagnostics.examples(run.module)
    images = run.datamodule.data.train.images[run.datamodule.splits["train"][spread(240, 256)]]
    assert torch.equal(inputs, run.module.normalization(images))


@pytest.mark.filterwarnings("ignore:You called `self.log")
def test_no_logger_no_trouble(idx_folder: Path, tmp_path: Path) -> None:
    run = build(idx_folder, tmp_path / "run", logger=False).fit().test()
    assert run.diagnostics.steps == [0, 3, 5, 6, 9, 11]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
def test_other_precisions(idx_folder: Path, tmp_path: Path, precision: str) -> None:
    """The weights take their type only when the training starts, after the examples were chosen."""
    run = build(idx_folder, tmp_path / "run", precision=precision).fit().test()
    losses = scalars_of(run, "diagnostics/probe_loss")
    assert all(math.isfinite(value) for value in losses.values())
    assert losses[11] < losses[0]
    assert "pictures/most_confident_mistakes" in run.events().Tags()["images"]


def test_softmax_regression_has_an_output_layer_alone(idx_folder: Path, tmp_path: Path) -> None:
    run = build(idx_folder, tmp_path / "run", model={"depth": 0, "norm": "none"}).fit()
    assert all(len(norms) == 1 for norms in run.diagnostics.gradient_norms)
    assert "diagnostics/gradient_ratio_log10" not in run.events().Tags()["scalars"]


def test_every_n_steps_must_be_positive() -> None:
    with pytest.raises(InputError):
        DiagnosticsSettings(every_n_steps=0)


@given(num=st.integers(0, 5000), most=st.integers(1, 600))
@settings(derandomize=True, max_examples=200)
def test_spread_is_even(num: int, most: int) -> None:
    positions = spread(num, most).tolist()
    assert len(positions) == min(num, most)
    assert positions == sorted(set(positions))
    assert all(0 <= position < num for position in positions)
    gaps = {b - a for a, b in pairwise(positions)}
    assert not gaps or max(gaps) - min(gaps) <= 1


@given(st.integers(0, 99), st.integers(0, 300))
@settings(derandomize=True, max_examples=30)
def test_layer_tags_sort_as_they_lie_and_are_equal_at_every_depth(num_hidden: int, more: int) -> None:
    tags, deeper = layer_tags(num_hidden), layer_tags(num_hidden + more)
    assert len(tags) == num_hidden + 1
    assert tags == sorted(tags)
    assert tags[:-1] == deeper[:num_hidden]
    assert tags[-1] == deeper[-1]
    assert len(set(deeper)) == len(deeper)


def test_a_layer_without_a_gradient_has_no_point(idx_folder: Path, tmp_path: Path) -> None:
    """Of a network of zeros, only the output layer's pre-activations and bias get a gradient."""
    run = build(idx_folder, tmp_path / "run", model={"init": "zeros", "norm": "none"}, max_epochs=1).fit()
    assert scalars_of(run, "layer_gradient_norm_log10/output")
    groups = {tag for tag in run.events().Tags()["scalars"] if tag.startswith("layer_gradient_norm_log10/")}
    assert groups == {"layer_gradient_norm_log10/output"}


TEN = DataSpec(2, 2, 10, "multiclass", tuple("0123456789"))
TWO = DataSpec(2, 2, 1, "binary", ("a", "b"))


@pytest.mark.parametrize(
    ("loss", "spec", "expected"),
    [
        ("auto", TEN, F.cross_entropy(torch.zeros(4, 10), torch.arange(4))),
        ("binary_cross_entropy", TWO, F.binary_cross_entropy_with_logits(torch.zeros(1), torch.ones(1))),
        ("binary_cross_entropy", TEN, None),
        ("mse", TEN, None),
        ("auto", DataSpec(2, 2, 1, "regression", ()), None),
    ],
)
def test_chance_loss_is_that_of_uniform_guesses(loss: str, spec: DataSpec, expected: torch.Tensor | None) -> None:
    found = chance_loss({"model.loss": loss}, spec)
    assert found is None if expected is None else found == pytest.approx(float(expected))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_see_what_one_sees(idx_folder: Path, tmp_path: Path) -> None:
    """Without batch norm and dropout the training is the same, so the probes are; and nothing is written twice."""
    seen = {}
    for num in (1, 2):
        flags = (
            f"--data.dataset idx --data.root {idx_folder} --data.num_validation 40 --data.batch_size 32 "
            "--model.width 16 --model.norm none --model.dropout 0 --model.learning_rate 0.001 --trainer.max_epochs 2 "
            f"--trainer.accelerator cpu --trainer.devices {num} --diagnostics.every_n_steps 4 "
            f"--run_root {tmp_path} --run_name on-{num}"
        )
        command = [sys.executable, "scripts/train.py", *flags.split()]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
        events = EventAccumulator(str(tmp_path / "idx" / f"on-{num}"), size_guidance={"scalars": 0}).Reload()
        tags = [tag for tag in events.Tags()["scalars"] if tag.startswith(("layer_", "diagnostics/"))]
        seen[num] = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}
    assert seen[1].keys() == seen[2].keys()
    assert [step for step, _ in seen[2]["layer_gradient_norm_log10/hidden_01"]] == [0, 4, 5, 8, 11]
    for tag, values in seen[1].items():
        assert np.array(seen[2][tag]) == pytest.approx(np.array(values), rel=1e-3, abs=1e-5), tag
