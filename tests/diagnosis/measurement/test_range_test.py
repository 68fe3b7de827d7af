"""The learning rate range test: on curves that are drawn by hand, and on a loss whose limit is known exactly."""

from pathlib import Path

import pytest
import torch
from conftest import make_idx_folder

from project.data.datamodule import ImageDataModule
from project.data.settings import DataSettings
from project.diagnosis.before_training import judge_rate
from project.diagnosis.measurement.range_test import RateRange, range_test, read_range
from project.training.module import ImageModule
from project.training.settings import ModelSettings

RATES = [10.0**-k for k in range(6, 0, -1)]


@pytest.mark.parametrize(
    ("losses", "slowest", "breaking"),
    [
        ([2.0, 2.0, 1.5, 1.0, 1.0, 1.9], 1e-4, 1e-1),  # falls, then rises by more than half of what it lost
        ([2.0, 2.0, 1.5, 1.0, 1.0, 1.1], 1e-4, None),
        ([2.0, 1.5, 1.0], 1e-5, 1e-3),  # then it was no longer a number
        ([2.0, 2.0, 2.0, 2.0, 2.0, 2.0], None, None),
        ([2.0, 2.0, 2.0, 3.0, 9.0], None, 1e-1),
        ([], None, 1e-6),
    ],
)
def test_where_the_loss_falls_and_rises(losses: list[float], slowest: float | None, breaking: float | None) -> None:
    found = read_range(RATES, losses)
    assert found.slowest == (None if slowest is None else pytest.approx(slowest))
    assert found.breaking == (None if breaking is None else pytest.approx(breaking))


@pytest.fixture
def linear(tmp_path: Path) -> tuple[ImageModule, ImageDataModule]:
    """Least squares: no hidden layer, one output, gradient descent."""
    folder = make_idx_folder(tmp_path / "data", num_train=300)
    data = DataSettings(dataset="idx", root=str(folder), num_validation=40, batch_size=130)
    datamodule = ImageDataModule(data, task="regression")
    torch.manual_seed(0)
    model = ModelSettings(task="regression", depth=0, norm="none", dropout=0.0, optimizer="sgd", learning_rate=0.01)
    return ImageModule(datamodule.spec, datamodule.normalization, model), datamodule


def test_gradient_descent_on_least_squares_breaks_at_two_over_the_curvature(
    linear: tuple[ImageModule, ImageDataModule],
) -> None:
    module, datamodule = linear
    before = {name: value.clone() for name, value in module.state_dict().items()}
    loader = datamodule.train_dataloader()
    found = range_test(module, loader)
    images = module.normalization(loader.images[loader.indices]).flatten(1)
    x = torch.cat([images, torch.ones(len(images), 1)], dim=1)
    curvature = float(torch.linalg.eigvalsh(2 * x.T @ x / len(x))[-1])
    assert found.breaking is not None
    # the rate grows by a fifth in each step, and divergence needs some steps to show
    assert 1 < found.breaking / (2 / curvature) < 6
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize(
    ("rate", "code"),
    [(0.5, "learning_rate_high"), (0.01, None), (1e-5, "learning_rate_low")],
)
def test_the_learning_rate_is_judged(rate: float, code: str | None) -> None:
    rates = RateRange(rates=[1e-4, 1.0], losses=[2.0, 1.0], slowest=1e-4, breaking=0.1)
    findings = judge_rate(rates, ModelSettings(learning_rate=rate))
    assert [finding.code for finding in findings] == ([code] if code else [])
    if code:
        assert findings[0].remedy == ["--model.learning_rate 0.004"]


def test_a_network_that_no_rate_moves() -> None:
    findings = judge_rate(RateRange([1.0], [2.0], None, None), ModelSettings())
    assert [(finding.code, finding.severity) for finding in findings] == [("no_rate_works", "severe")]
