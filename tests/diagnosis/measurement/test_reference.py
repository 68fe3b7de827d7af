"""The closed-form reference, on data for which the error that can be reached is known."""

import pytest
import torch

from project.diagnosis.measurement.reference import reference_error


def blobs(num: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Four classes that lie far apart, in 6 × 6 pictures."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(4, 36, generator=torch.Generator().manual_seed(99)) * 3
    labels = torch.arange(num) % 4
    return (centres[labels] + torch.randn(num, 36, generator=generator)).reshape(-1, 6, 6), labels


def test_classes_that_lie_apart_are_told_apart() -> None:
    assert reference_error(*blobs(800, 0), *blobs(400, 1), "multiclass") == 0


def test_labels_that_mean_nothing_are_guessed() -> None:
    (x, y), (held, held_y) = blobs(800, 0), blobs(400, 1)
    shuffled = y[torch.randperm(800, generator=torch.Generator().manual_seed(0))]
    error = reference_error(x, shuffled, held, held_y, "multiclass")
    assert error == pytest.approx(0.75, abs=0.12)


@pytest.mark.parametrize(("scale", "offset"), [(255.0, 0.0), (0.01, 0.0), (50.0, 400.0)])
def test_the_scale_of_the_inputs_does_not_matter(scale: float, offset: float) -> None:
    (x, y), (held, held_y) = blobs(300, 0), blobs(300, 1)
    noisy = y.clone()
    noisy[::5] = (noisy[::5] + 1) % 4  # so that the error is not 0
    error = reference_error(x, noisy, held, held_y, "multiclass")
    again = reference_error(scale * x + offset, noisy, scale * held + offset, held_y, "multiclass")
    assert again == pytest.approx(error, abs=0.02)


def test_a_regression_by_its_noise() -> None:
    """y = a·x + noise: no fit can be better than the noise's sd, and one that knows nothing has the targets' sd."""
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(36, generator=generator) / 6
    x, held = torch.randn(4000, 36, generator=generator), torch.randn(1000, 36, generator=generator)
    y, held_y = (v @ direction + 0.3 * torch.randn(len(v), generator=generator) for v in (x, held))
    error = reference_error(x, y, held, held_y, "regression")
    assert 0.28 < error < 0.6
    unrelated = torch.randn(4000, generator=generator)
    assert reference_error(x, unrelated, held, held_y, "regression") > 0.9 * float(held_y.std())
