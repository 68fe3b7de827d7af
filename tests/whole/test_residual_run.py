"""A residual network in every view of a run: diagnosed, drawn, restored, exported and attributed as it computes."""

from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from project.diagnosis.before_training import examine, layer_diagnosis_table
from project.runs.build import Run, build_run
from project.runs.parser import parse_settings
from project.runs.train import train
from project.serving.demo.attribution import evidence, layer_outputs, pixel_attribution
from project.serving.export.export import export, load_network
from project.serving.restore import restore
from project.training.module import ImageModule

DEPTH = 6


@pytest.fixture(scope="module")
def run(idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    flags = ["--data.dataset=idx", f"--data.root={idx_folder}", "--data.batch_size=32", "--trainer.max_epochs=2"]
    flags += ["--model.network=residual_mlp", f"--model.depth={DEPTH}", "--model.width=16", "--trainer.accelerator=cpu"]
    flags += ["--trainer.log_every_n_steps=2", f"--run_root={tmp_path_factory.mktemp('runs')}"]
    run = build_run(parse_settings(flags))
    train(run)
    return run


def pictures(run: Run) -> torch.Tensor:
    return run.datamodule.data.test.images[:7]


def by_hand(run: Run, images: torch.Tensor) -> torch.Tensor:
    """The sum of the blocks, from the trained weights alone, as an evaluation computes it."""
    state = run.module.state_dict()
    weights = {name.removeprefix("network."): value for name, value in state.items()}
    x = (images.flatten(1).float() - state["normalization.shift"]) * state["normalization.scale"]
    total = torch.zeros(())
    for i in range(DEPTH):
        part = {name: weights[f"hidden.{i}.{name}"] for name in ("linear.weight", "linear.bias")}
        total = total + x @ part["linear.weight"].T + part["linear.bias"]
        norm = {name: weights[f"hidden.{i}.norm.{name}"] for name in ("weight", "bias", "running_mean", "running_var")}
        normed = (total - norm["running_mean"]) / (norm["running_var"] + 1e-5).sqrt() * norm["weight"] + norm["bias"]
        x = normed.clamp(min=0)
    return x @ weights["output.weight"].T + weights["output.bias"]


def test_it_is_restored_and_exported(run: Run) -> None:
    assert run.folder is not None
    images = pictures(run)
    torch.testing.assert_close(run.module.eval()(images), by_hand(run, images), rtol=1e-4, atol=1e-4)
    restored = restore(run.folder)
    assert torch.equal(restored.model(images), run.module(images))
    exported = load_network(export(restored, "safetensors").path)
    torch.testing.assert_close(exported(images), by_hand(run, images).softmax(1), rtol=1e-4, atol=1e-5)


def test_its_attributions_add_up(run: Run) -> None:
    pytest.importorskip("captum")
    images, trained = pictures(run).float(), run.module.eval()
    torch.manual_seed(0)
    # smooth, so that the integral from black to the picture is exact with a few points
    smooth = {"activation": "gelu", "network": "residual_mlp", "depth": DEPTH, "width": 16}
    module = ImageModule(trained.spec, trained.normalization, **smooth).eval()
    outputs = layer_outputs(module, images)
    assert [tuple(output.shape) for output in outputs] == [(7, 16)] * DEPTH + [(7, module.spec.num_outputs)]
    shares = pixel_attribution(module, images, decision=1)
    black = torch.zeros_like(images)
    expected = evidence(module, images, 1) - evidence(module, black, 1)
    torch.testing.assert_close(shares.sum((1, 2)), expected.detach(), rtol=1e-3, atol=1e-3)


def test_tensorboard_draws_the_sums(run: Run) -> None:
    events = EventAccumulator(str(run.folder), size_guidance={"histograms": 0}).Reload()
    nodes = {node.name: list(node.input) for node in events.Graph().node}
    assert {name for name in nodes if name.endswith("/sum")} == {f"hidden_{i:02}/sum" for i in range(2, DEPTH + 1)}
    assert nodes["hidden_03/sum"][1] == "hidden_02/sum"
    assert nodes["hidden_02/sum"][1].startswith("hidden_01/linear")
    assert f"layer_gradient_norm_log10/hidden_{DEPTH:02}" in events.Tags()["scalars"]
    assert f"layer_activations/hidden_{DEPTH:02}" in events.Tags()["histograms"]


def test_diagnosis_leaves_theory_out(run: Run) -> None:
    examined = examine(run.settings.model, run.settings.data, seed=0)
    assert examined.diagnosis.predictions == []
    assert examined.diagnosis.depth_scale is None
    headings = [str(column.header) for column in layer_diagnosis_table(examined).columns]
    assert not any("theory" in heading for heading in headings)
    assert len(examined.diagnosis.probe.hidden) == DEPTH
