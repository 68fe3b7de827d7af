"""The baselines learn, do all of the job that they are timed on, and do it with the same network as the project."""

import dataclasses
import gzip
import math
import sys
import time
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from conftest import ROOT, write_idx
from torch.utils.flop_counter import FlopCounterMode

from project.data.sources.arrays import load_arrays
from project.network.mlp import MLP
from project.network.optimization.schedules import learning_rate_factor

sys.path.insert(0, str(ROOT))
from benchmarks import baselines
from benchmarks.baselines import Job

Array: TypeAlias = "np.ndarray[Any, Any]"

HEIGHT, WIDTH = 6, 5
NUM_TRAIN, NUM_TEST = 230, 40


def easy_images(num_examples: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Noise with one bright pixel by class: 10 classes that a linear map can tell apart."""
    labels = rng.integers(10, size=num_examples)
    images = rng.integers(60, size=(num_examples, HEIGHT * WIDTH))
    images[np.arange(num_examples), 3 * labels] = 250
    return images.reshape(num_examples, HEIGHT, WIDTH), labels


@pytest.fixture(params=["raw", "gzipped"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for prefix, num_examples in (("train", NUM_TRAIN), ("t10k", NUM_TEST)):
        images, labels = easy_images(num_examples, rng)
        for path, array in ((f"{prefix}-images-idx3-ubyte", images), (f"{prefix}-labels-idx1-ubyte", labels)):
            write_idx(folder / path, array)
            if request.param == "gzipped":
                (folder / f"{path}.gz").write_bytes(gzip.compress((folder / path).read_bytes()))
                (folder / path).unlink()
    return tmp_path


raw_only = pytest.mark.parametrize("root", ["raw"], indirect=True)


def test_load_returns_what_was_written(root: Path) -> None:
    rng = np.random.default_rng(0)
    for train, num_examples in ((True, NUM_TRAIN), (False, NUM_TEST)):
        images, labels = easy_images(num_examples, rng)
        loaded_images, loaded_labels = baselines.load(Job(root), train)
        assert loaded_images.dtype == torch.uint8
        np.testing.assert_array_equal(loaded_images, images.reshape(num_examples, -1))
        np.testing.assert_array_equal(loaded_labels, labels)


def test_both_sides_read_the_pictures_in_colour(tmp_path: Path) -> None:
    data = load_arrays(baselines.write_colour(tmp_path, 1000, 100), split_seed=0)
    for train, split in ((True, data.train), (False, data.test)):
        images, labels = baselines.load(Job(tmp_path, "arrays"), train)
        assert split.images.shape[1:] == (32, 32, 3)
        assert torch.equal(images, split.images.flatten(1))
        assert torch.equal(labels, split.labels)
    pixels = data.train.images.double() / 255
    assert baselines.MEAN_AND_SD["arrays"] == pytest.approx((pixels.mean().item(), pixels.std().item()), abs=2e-3)


def train_by_hand(job: Job, weights: list[Array], images: torch.Tensor, labels: torch.Tensor) -> list[float]:
    """The job in numpy, float64, examples in their order; changes `weights` and returns each epoch's mean loss.

    The gradients are written out, Adam is algorithm 1 of Kingma & Ba 2015, the schedule is the project's closed form.
    """
    mean, sd = baselines.MEAN_AND_SD[job.dataset]
    inputs, targets = (images.numpy() / 255 - mean) / sd, np.eye(10)[labels.numpy()]
    steps_per_epoch = math.ceil(len(inputs) / job.batch_size)
    moments = [(np.zeros_like(weight), np.zeros_like(weight)) for weight in weights]
    losses, step = [], 0
    for _ in range(job.num_epochs):
        loss = 0.0
        for start in range(0, len(inputs), job.batch_size):
            target = targets[start : start + job.batch_size]
            values = [inputs[start : start + job.batch_size]]
            for weight, bias in zip(weights[0:-2:2], weights[1:-2:2], strict=True):
                values.append(np.maximum(values[-1] @ weight.T + bias, 0))
            logits = values[-1] @ weights[-2].T + weights[-1]
            p = np.exp(logits - logits.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            loss -= np.log((p * target).sum(axis=1)).sum()
            gradients: list[Array] = []
            slope = (p - target) / len(target)
            for weight, value in zip(weights[-2::-2], reversed(values), strict=True):
                gradients[:0] = [slope.T @ value, slope.sum(axis=0)]
                slope = (slope @ weight) * (value > 0)
            rate = job.learning_rate * learning_rate_factor(job.schedule, step, job.num_epochs * steps_per_epoch)
            step += 1
            for weight, gradient, (first, second) in zip(weights, gradients, moments, strict=True):
                if job.optimizer == "sgd":
                    weight -= rate * gradient
                else:
                    first += 0.1 * (gradient - first)
                    second += 0.001 * (gradient**2 - second)
                    root_second = np.sqrt(second / (1 - 0.999**step)) + 1e-8
                    weight -= rate * first / (1 - 0.9**step) / root_second
        losses.append(loss / len(inputs))
    return losses


@raw_only
@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
@pytest.mark.parametrize(("optimizer", "learning_rate"), [("sgd", 0.3), ("adam", 0.01)])
def test_bare_loop_equals_a_loop_in_numpy(
    root: Path, monkeypatch: pytest.MonkeyPatch, optimizer: Any, learning_rate: float, schedule: Any
) -> None:
    """230 examples in batches of 50: also a last batch that is smaller."""
    job = Job(
        root, width=(7, 5), batch_size=50, num_epochs=4, num_validation=0,
        optimizer=optimizer, learning_rate=learning_rate, schedule=schedule,
    )  # fmt: skip
    monkeypatch.setattr(torch, "randperm", lambda n, device: torch.arange(n, device=device))
    torch.manual_seed(job.seed)
    network = baselines.build_network(job, HEIGHT * WIDTH)
    weights = [parameter.detach().double().numpy().copy() for parameter in network.parameters()]
    losses = train_by_hand(job, weights, *baselines.load(job, train=True))

    outcome = baselines.bare_loop(job)
    np.testing.assert_allclose(outcome.train_loss, losses, rtol=1e-4)
    for parameter, initial, expected in zip(outcome.model.parameters(), network.parameters(), weights, strict=True):
        np.testing.assert_allclose(parameter.detach(), expected, atol=2e-4)
        assert np.abs(expected - initial.detach().numpy()).max() > 0.02


@raw_only
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_bare_loop_learns(root: Path, norm: Any) -> None:
    job = Job(root, width=(32,), norm=norm, dropout=0.1, batch_size=20, learning_rate=0.01, num_epochs=12)
    job = dataclasses.replace(job, num_validation=30, optimizer="adamw", schedule="cosine")
    outcome = baselines.bare_loop(job, with_test=True)
    assert len(outcome.epoch_s) == len(outcome.train_loss) == len(outcome.validation_accuracy) == job.num_epochs
    assert min(outcome.epoch_s) > 0
    assert outcome.train_loss[-1] < 0.5 * outcome.train_loss[0]
    assert outcome.train_accuracy[-1] > 0.9
    assert outcome.validation_accuracy[-1] > 0.8
    assert outcome.test_accuracy > 0.8
    assert (outcome.test_accuracy * NUM_TEST) % 1 == 0
    again = baselines.bare_loop(job, with_test=True)
    assert (again.train_loss, again.test_accuracy) == (outcome.train_loss, outcome.test_accuracy)


@raw_only
def test_held_out_examples_are_not_trained_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the examples in their order, the first 80 may be anything as long as they are held out."""
    job = Job(root, width=(8,), batch_size=50, num_epochs=2, num_validation=80)
    monkeypatch.setattr(torch, "randperm", lambda n, device: torch.arange(n, device=device))
    losses = baselines.bare_loop(job).train_loss
    images, labels = baselines.load(job, train=True)
    images[:80] = 255
    monkeypatch.setattr(baselines, "load", lambda job, train: (images, labels))
    assert baselines.bare_loop(job).train_loss == losses


@pytest.mark.parametrize("activation", list(baselines.ACTIVATIONS))
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_network_is_the_projects(norm: Any, activation: Any) -> None:
    torch.manual_seed(0)
    ours = MLP(12, 10, depth=2, width=[7, 5], activation=activation, norm=norm, dropout=0.2)
    job = Job(Path(), width=(7, 5), activation=activation, norm=norm, dropout=0.2)
    theirs = baselines.build_network(job, 12)
    with torch.no_grad():
        for target, source in zip(theirs.parameters(), ours.parameters(), strict=True):
            target.copy_(source)
    x = torch.randn(20, 12)
    torch.testing.assert_close(theirs.eval()(x), ours.eval()(x), rtol=0, atol=0)
    outputs = []
    for network in (theirs, ours):
        torch.manual_seed(1)  # the same units dropped
        outputs.append(network.train()(x))
    torch.testing.assert_close(*outputs, rtol=0, atol=0)


@raw_only
@pytest.mark.parametrize("width", [(), (16,), (64, 128, 64)])
def test_matrix_products_are_all_of_an_epoch_and_no_more(root: Path, width: tuple[int, ...]) -> None:
    job = Job(root, width=width, batch_size=64, num_epochs=2, num_validation=30)
    with FlopCounterMode(display=False) as products:
        outcome = baselines.matrix_products(job)
    assert len(outcome.epoch_s) == 2
    closed_form = baselines.matrix_product_flops(job, HEIGHT * WIDTH, NUM_TRAIN - 30)
    assert products.get_total_flops() == 2 * closed_form
    with FlopCounterMode(display=False) as training:
        baselines.bare_loop(dataclasses.replace(job, num_validation=0, num_epochs=1))
    assert training.get_total_flops() == baselines.matrix_product_flops(job, HEIGHT * WIDTH, NUM_TRAIN)


def test_flops_of_the_reference_network() -> None:
    """784-256-10, one example: 2·(784·256 + 256·10) forward, as much for the weights, 2·256·10 for the hidden layer."""
    assert baselines.matrix_product_flops(Job(Path(), width=(256,)), 784, 1) == 406_528 + 406_528 + 5_120


@pytest.mark.filterwarnings("ignore:.*does not have many workers")  # none is what is to be measured
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning 2.6 with a recent torch
def test_lightning_dataloader_trains_and_times_each_epoch(root: Path) -> None:
    job = Job(root, width=(32,), batch_size=4, learning_rate=0.01, num_epochs=3, num_validation=30)
    job = dataclasses.replace(job, schedule="one_cycle")
    start = time.perf_counter()
    outcome = baselines.lightning_dataloader(job)
    total_s = time.perf_counter() - start
    assert len(outcome.epoch_s) == len(outcome.train_loss) == len(outcome.validation_accuracy) == 3
    assert 0 < sum(outcome.epoch_s) < total_s
    assert outcome.train_loss[-1] < 0.5 * outcome.train_loss[0]
    assert outcome.train_accuracy[-1] > 0.9
    assert outcome.validation_accuracy[-1] > 0.8
    mean, sd = baselines.MEAN_AND_SD[job.dataset]
    images, labels = baselines.load(job, train=False)
    predictions = outcome.model.eval()((images / 255 - mean) / sd).argmax(dim=1)
    assert (predictions == labels).float().mean() > 0.8
