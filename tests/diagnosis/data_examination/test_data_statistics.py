"""The statistics behind the examination, against closed forms, brute force and known rates."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from project.data.sources.load import ImageSplit
from project.diagnosis.data_examination.duplicates import find_copies
from project.diagnosis.data_examination.features.alignment import centred
from project.diagnosis.data_examination.features.classifier import judge_out_of_fold
from project.diagnosis.data_examination.features.transformations import blurred, moved
from project.diagnosis.data_examination.labels import agreement, estimate_noise
from project.diagnosis.data_examination.shift import two_sample_test
from project.diagnosis.data_examination.shortcuts import isolated, measure_information
from project.diagnosis.data_examination.values import constant_pixels, is_frame


def test_two_equal_samples_are_hardly_ever_told_apart() -> None:
    scores, alarms = [], 0
    for seed in range(200):
        x = torch.randn(400, 12, generator=torch.Generator().manual_seed(seed))
        result = two_sample_test(x[:200], x[200:])
        scores.append(result.z)
        alarms += result.differs
    assert alarms == 0
    # the z score is about standard normal under the null; cross-validated guesses are a little pessimistic
    assert abs(np.mean(scores)) < 0.5
    assert np.mean(np.array(scores) > 1.96) < 0.06


def test_two_samples_that_differ_are_told_apart_as_well_as_possible() -> None:
    x = torch.randn(4000, 5, generator=torch.Generator().manual_seed(0))
    x[2000:, 0] += 2
    # the best rule cuts half way: accuracy Φ(1)
    assert two_sample_test(x[:2000], x[2000:]).accuracy == pytest.approx(0.8413, abs=0.015)


def noisy_labels(share: float, seed: int, classes: int = 10, num: int = 5000) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of an unsure classifier, and labels of which this share is wrong."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.randint(0, classes, (num,), generator=generator)
    scores = functional.one_hot(true, classes) + 0.35 * torch.randn(num, classes, generator=generator)
    wrong = torch.rand(num, generator=generator) < share
    other = (true + torch.randint(1, classes, (num,), generator=generator)) % classes
    return scores, torch.where(wrong, other, true)


@pytest.mark.parametrize("share", [0.0, 0.03, 0.1, 0.3, 0.5])
def test_symmetric_noise_is_estimated(share: float) -> None:
    found = [estimate_noise(*noisy_labels(share, seed)) for seed in range(10)]
    assert np.mean([noise.symmetric for noise in found]) == pytest.approx(share, abs=0.012)
    assert all(noise.symmetric_certain <= share + 0.001 for noise in found)
    assert all(noise.is_symmetric == (share > 0) for noise in found)
    assert not any(noise.pairs for noise in found)


def test_noise_of_a_pair_is_estimated() -> None:
    scores, labels = noisy_labels(0.0, 0)
    scores[labels == 3, 7] += 0.25  # a classifier that learns from such labels expects them
    generator = torch.Generator().manual_seed(1)
    labels[(labels == 3) & (torch.rand(len(labels), generator=generator) < 0.25)] = 7
    noise = estimate_noise(scores, labels)
    (pair,) = noise.pairs
    assert (pair.looks_like, pair.labelled) == (3, 7)
    assert pair.share == pytest.approx(0.25, abs=0.06)
    assert not noise.is_symmetric


def test_information_is_that_of_the_formula() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(20_000) % 2
    flipped = rng.random(20_000) < 0.1
    images = np.stack([labels, labels ^ flipped, rng.integers(0, 2, 20_000), np.zeros(20_000)], 1)
    split = ImageSplit(torch.from_numpy(images.astype(np.uint8)).view(-1, 2, 2), torch.from_numpy(labels))
    found = measure_information(split, 2)
    entropy = -(0.1 * math.log2(0.1) + 0.9 * math.log2(0.9))
    assert found.of_all.flatten().tolist() == pytest.approx([1, 1 - entropy, 0, 0], abs=0.01)
    assert found.certain.flatten().tolist() == [True, True, False, False]
    assert torch.allclose(found.of_all, found.of_one, atol=1e-6)  # with two classes they are the same question


def test_a_mark_falls_off_at_once_and_a_hill_does_not() -> None:
    hill = torch.exp(-((torch.arange(28.0) - 14).square()) / 50)
    information = 0.5 * hill[:, None] * hill[None, :]
    assert not isolated(information).any()
    information[1:3, 20:23] = 0.9
    assert isolated(information).nonzero().tolist() == [[r, c] for r in (1, 2) for c in (20, 21, 22)]


def test_exact_copies_are_those_that_brute_force_finds() -> None:
    images = torch.randint(0, 2, (300, 3, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    flat = images.flatten(1)
    blank = flat.amin(1) == flat.amax(1)
    copies = find_copies(images)
    equal = (flat[:, None] == flat[None, :]).all(2) & ~blank[:, None]
    expected = {j for i in range(300) for j in range(i + 1, 300) if equal[i, j]}
    assert set(copies.pairs[copies.exact, 1].tolist()) == expected
    assert all(equal[i, j] for i, j in copies.pairs[copies.exact].tolist())


def test_centring_undoes_a_shift() -> None:
    picture = torch.zeros(1, 12, 12)
    picture[0, 4:7, 5:8] = 200.0
    assert torch.equal(centred(picture), centred(picture.roll((2, -3), (1, 2))))


def test_out_of_fold_means_out_of_fold() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(300, 200, generator=generator), torch.randint(0, 2, (300,), generator=generator)
    # labels without any sense could be learned by heart, and copies would give them away
    scores = judge_out_of_fold(x, functional.one_hot(y, 2).float()).scores
    assert agreement(scores.argmax(1), y, 2).unrelated
    groups = torch.arange(300).repeat(2)
    scores = judge_out_of_fold(x.repeat(2, 1), functional.one_hot(y, 2).float().repeat(2, 1), groups).scores
    assert agreement(scores.argmax(1), y.repeat(2), 2).unrelated


def test_transformations_by_hand() -> None:
    picture = torch.zeros(1, 5, 5)
    picture[0, 2, 2] = 9
    assert moved(picture, 1, -2).nonzero().tolist() == [[0, 3, 0]]
    assert float(blurred(picture, 0.6).sum()) == pytest.approx(9, abs=0.5)


def test_a_frame_is_no_dead_region() -> None:
    images = torch.zeros(4, 6, 6, dtype=torch.uint8)
    images[0, 1:5, 1:5] = 1
    dead = constant_pixels(images)
    assert int(dead.sum()) == 20
    assert is_frame(dead)
    dead[3] = True
    assert not is_frame(dead)
