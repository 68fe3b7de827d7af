"""Normalization against NumPy (N4); augmentation against torchvision, PIL, SciPy and the papers' definitions."""

import math
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from scipy import stats
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF  # noqa: N812 - the field's usual name

from project.data import normalization
from project.data.augmentation import (
    MAX_SHIFT,
    MIXES,
    MIXUP_ALPHA,
    ON_IMAGES,
    Batch,
    affine,
    build_augmentation,
    cutmix,
    erase,
    mixup,
    rotate,
    shift,
    warp,
)
from project.data.normalization import fit_normalization
from project.data.settings import AugmentationName, NormalizationName
from project.errors import InputError

MODES = get_args(NormalizationName)
AUGMENTATIONS = get_args(AugmentationName)


def pictures(num: int = 20, height: int = 6, width: int = 5, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (num, height, width), dtype=torch.uint8, generator=generator)


def blobs(num: int, height: int, width: int) -> Tensor:
    """Smooth pictures, so that interpolation hardly blurs them: (num, height, width) in 0–255."""
    y, x = torch.meshgrid(torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij")
    return 255 * torch.exp(-((x / 6) ** 2 + (y / 2.5) ** 2) / 2).expand(num, -1, -1)


def batch_of(images: Tensor) -> Batch:
    return Batch(images, torch.arange(len(images)))


class TestNormalization:
    @pytest.mark.parametrize("mode", MODES)
    def test_against_numpy(self, mode: NormalizationName) -> None:
        images = pictures()
        images[:, 2, 3] = 77  # a constant pixel
        train = np.arange(3, 17)
        raw = images.numpy().reshape(20, 30).astype(np.float64)
        with np.errstate(invalid="ignore"):
            expected = {
                "none": raw,
                "unit": raw / 255,
                "symmetric": raw / 127.5 - 1,
                "standardize": (raw - raw[train].mean()) / raw[train].std(),
                "feature_standardize": np.nan_to_num((raw - raw[train].mean(0)) / raw[train].std(0)),
            }[mode]
        found = fit_normalization(mode, images, torch.from_numpy(train))(images)
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)

    def test_a_constant_pixel_stays_0_whatever_it_is_later(self) -> None:
        images = pictures()
        images[:10, 0, 0] = 200
        normalization = fit_normalization("feature_standardize", images, torch.arange(10))
        found = normalization(images)
        assert not found[:, 0].any()
        assert found.isfinite().all()

    @pytest.mark.parametrize("mode", ["standardize", "feature_standardize"])
    def test_chunks_change_nothing(self, mode: NormalizationName, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = fit_normalization(mode, pictures(), torch.arange(20))
        monkeypatch.setattr(normalization, "FIT_CHUNK", 7)
        chunked = fit_normalization(mode, pictures(), torch.arange(20))
        assert torch.equal(whole.shift, chunked.shift)
        assert torch.equal(whole.scale, chunked.scale)

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
    def test_the_input_is_left_as_it_was(self, mode: NormalizationName, dtype: torch.dtype) -> None:
        images = pictures().to(dtype)
        kept = images.clone()
        found = fit_normalization(mode, pictures(), torch.arange(20))(images)
        assert torch.equal(images, kept)
        assert found.shape == (20, 30)
        assert found.data_ptr() != images.data_ptr()
        assert torch.equal(found, fit_normalization(mode, pictures(), torch.arange(20))(pictures()))

    def test_gradients_reach_a_float_input(self) -> None:
        images = pictures().float().requires_grad_()
        normalization = fit_normalization("standardize", pictures(), torch.arange(20))
        normalization(images).sum().backward()
        torch.testing.assert_close(images.grad, normalization.scale.expand_as(images))

    def test_statistics_travel_with_the_state(self) -> None:
        fitted = fit_normalization("feature_standardize", pictures(), torch.arange(20))
        empty = normalization.Normalization(torch.zeros(30), torch.ones(30))
        empty.load_state_dict(fitted.state_dict())
        assert torch.equal(empty(pictures()), fitted(pictures()))
        assert not list(fitted.parameters())

    def test_pictures_without_contrast_are_refused(self) -> None:
        flat = torch.full((5, 3, 3), 130, dtype=torch.uint8)
        same = pictures(1, 3, 3).expand(5, 3, 3)
        for mode, images in (("standardize", flat), ("feature_standardize", flat), ("feature_standardize", same)):
            with pytest.raises(InputError):
                fit_normalization(mode, images, torch.arange(5))
        found = fit_normalization("standardize", same, torch.arange(5))(same)
        assert found.std(correction=0).item() == pytest.approx(1)

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(images=arrays.arrays(np.uint8, st.tuples(st.integers(1, 8), st.integers(1, 4), st.integers(1, 4))))
    def test_any_pictures(self, images: np.ndarray) -> None:
        tensor, indices = torch.from_numpy(images), torch.arange(len(images))
        raw = images.reshape(len(images), -1).astype(np.float64)
        for mode, sd, mean in (
            ("standardize", raw.std(), raw.mean()),
            ("feature_standardize", raw.std(0), raw.mean(0)),
        ):
            if not (sd > 1e-9).any():
                with pytest.raises(InputError):
                    fit_normalization(mode, tensor, indices)
                continue
            expected = np.where(sd > 1e-9, (raw - mean) / np.maximum(sd, 1e-9), 0)
            found = fit_normalization(mode, tensor, indices)(tensor)
            np.testing.assert_allclose(found.numpy(), expected, atol=1e-3)


class TestShift:
    def test_each_picture_is_one_of_the_25_moved_by_hand(self) -> None:
        torch.manual_seed(0)
        image = pictures(1, 7, 9)[0] // 2 + 1  # nowhere black
        counts = np.zeros((5, 5), dtype=int)
        moved_by_hand = {}
        for dy in range(-2, 3):
            for dx in range(-2, 3):
                expected = torch.roll(image, (dy, dx), (0, 1))
                if dy:
                    expected[:dy] = 0 if dy > 0 else expected[:dy]
                    expected[dy:] = 0 if dy < 0 else expected[dy:]
                if dx:
                    expected[:, :dx] = 0 if dx > 0 else expected[:, :dx]
                    expected[:, dx:] = 0 if dx < 0 else expected[:, dx:]
                moved_by_hand[expected.numpy().tobytes()] = (dy + 2, dx + 2)
        assert len(moved_by_hand) == (2 * MAX_SHIFT + 1) ** 2
        moved = shift(image.expand(2500, -1, -1))
        assert moved.dtype == torch.uint8
        for picture in moved:
            counts[moved_by_hand[picture.numpy().tobytes()]] += 1
        assert stats.chisquare(counts.ravel()).pvalue > 0.001  # all 25 are as likely


class TestRotate:
    @pytest.mark.parametrize("size", [(9, 9), (10, 10), (8, 13), (14, 9)], ids=str)
    @pytest.mark.parametrize("angle", [-37.0, -10.0, 4.0, 25.0, 90.0, 160.0])
    def test_against_torchvision(self, size: tuple[int, int], angle: float) -> None:
        images = pictures(3, *size).float()
        expected = TF.rotate(images, angle, InterpolationMode.BILINEAR)
        torch.testing.assert_close(rotate(images, torch.full((3,), angle)), expected, atol=0.02, rtol=0)

    def test_against_pil_on_oblong_pictures(self) -> None:
        image = blobs(1, 24, 40)[0]
        for angle in (-30.0, 15.0, 60.0):
            expected = Image.fromarray(image.numpy()).rotate(angle, Image.Resampling.BILINEAR)
            found = rotate(image[None], torch.tensor([angle]))[0].numpy()
            np.testing.assert_allclose(found[2:-2, 2:-2], np.asarray(expected)[2:-2, 2:-2], atol=2)

    def test_quarter_turns_are_counter_clockwise(self) -> None:
        images = pictures(2, 8, 8)
        expected = torch.stack((torch.rot90(images[0], 1), torch.rot90(images[1], -1))).float()
        torch.testing.assert_close(rotate(images, torch.tensor([90.0, -90.0])), expected, atol=0.01, rtol=0)

    def test_each_picture_by_its_own_angle(self) -> None:
        images, angles = pictures(3, 9, 7), torch.tensor([10.0, -50.0, 120.0])
        each = torch.cat([rotate(images[i : i + 1], angles[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(rotate(images, angles), each)


@pytest.mark.parametrize("size", [(11, 11), (12, 17)], ids=str)
def test_warp_against_torchvision(size: tuple[int, int]) -> None:
    height, width = size
    images = pictures(1, height, width).float()
    for angle, scale, dx, dy in ((0, 1, 2, -1), (0, 1.3, 0, 0), (30, 0.8, 1, 2), (-20, 1.2, -3, 1)):
        # torchvision's affine turns clockwise; both turn and scale about the centre first, then move
        expected = TF.affine(images, -angle, [dx, dy], scale, [0.0, 0.0], InterpolationMode.BILINEAR)
        move = torch.tensor([[2 * dx / width], [2 * dy / height]])
        found = warp(images, torch.tensor([float(angle)]), torch.tensor([float(scale)]), move)
        torch.testing.assert_close(found, expected, atol=0.02, rtol=0)


def test_affine_stays_within_its_bounds_and_uses_them() -> None:
    """Angle, size and place of a long blob, read from its moments, which are exact for a smooth one."""
    torch.manual_seed(0)
    images = blobs(400, 64, 64)
    found = affine(images).double()
    assert found.shape == images.shape
    mass = found.sum((1, 2))
    grid = torch.arange(64, dtype=torch.float64) - 31.5
    x, y = (found.sum(1) @ grid) / mass, (found.sum(2) @ grid) / mass
    squares = {
        "xx": (found.sum(1) @ grid**2) / mass - x**2,
        "yy": (found.sum(2) @ grid**2) / mass - y**2,
        "xy": torch.einsum("nyx,y,x->n", found, grid, grid) / mass - x * y,
    }
    # the y axis points down: counter-clockwise is minus
    angle = -torch.rad2deg(torch.atan2(2 * squares["xy"], squares["xx"] - squares["yy"]) / 2)
    scale = (mass / images[0].sum()).sqrt()
    for drawn, low, high in ((x, -2, 2), (y, -2, 2), (angle, -10, 10), (scale, 0.9, 1.1)):
        slack = 0.02 * (high - low)
        assert low - slack <= drawn.min() < low + 5 * slack
        assert high - 5 * slack < drawn.max() <= high + slack
        assert stats.kstest(drawn.numpy(), stats.uniform(low, high - low).cdf).pvalue > 0.001


class TestErase:
    def test_one_rectangle_of_2_to_20_percent(self) -> None:
        torch.manual_seed(0)
        erased = erase(torch.full((500, 120, 100), 9, dtype=torch.uint8))
        shares, ratios = [], []
        for picture in erased == 0:
            rows, columns = picture.any(1).nonzero()[:, 0], picture.any(0).nonzero()[:, 0]
            box = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert box.all()
            assert box.sum() == picture.sum()
            shares.append(picture.float().mean().item())
            ratios.append(box.shape[0] / box.shape[1])
        # a side is a whole number of pixels: of 12 at least, so each is off by at most 8 %
        assert stats.kstest(shares, stats.uniform(0.02, 0.18).cdf).pvalue > 0.001
        assert 0.018 < min(shares) < 0.025
        assert 0.195 < max(shares) < 0.205
        assert stats.kstest(np.log(ratios), stats.uniform(-math.log(3), 2 * math.log(3)).cdf).pvalue > 0.001

    def test_the_rest_is_left_as_it_was(self) -> None:
        images = pictures(50) // 2 + 1
        torch.manual_seed(0)
        erased = erase(images)
        assert erased.dtype == images.dtype
        assert torch.equal(torch.where(erased == 0, images, erased), images)
        assert (erased == 0).flatten(1).any(1).all()  # something is missing from each, however small the picture

    def test_boxes_are_anywhere(self) -> None:
        torch.manual_seed(0)
        share = (erase(torch.ones(4000, 10, 10)) == 0).float().mean(0)
        assert share.min() > 0.005
        torch.testing.assert_close(share, share.flip(0), atol=0.04, rtol=0)
        torch.testing.assert_close(share, share.T, atol=0.04, rtol=0)


class TestMixup:
    def test_pictures_and_targets_are_blended_by_the_same_weight(self) -> None:
        torch.manual_seed(0)
        images = pictures(30)
        for _ in range(5):
            mixed = mixup(batch_of(images))
            assert mixed.mixed_targets is not None
            assert mixed.weight is not None
            assert (mixed.weight.shape, mixed.weight.dtype, mixed.weight.requires_grad) == ((), torch.float32, False)
            first, second = images[mixed.targets].double(), images[mixed.mixed_targets].double()
            expected = mixed.weight.double() * first + (1 - mixed.weight.double()) * second
            torch.testing.assert_close(mixed.images.double(), expected, atol=1e-3, rtol=0)
            assert torch.equal(mixed.targets, torch.arange(30))
            assert sorted(mixed.mixed_targets.tolist()) == list(range(30))

    def test_weights_are_drawn_from_a_beta_distribution(self) -> None:
        torch.manual_seed(0)
        batch = batch_of(torch.zeros(1, 1, 1))
        weights = np.array([mixup(batch).weight.item() for _ in range(4000)])
        assert ((weights >= 0) & (weights <= 1)).all()
        # near 1 float32 is too coarse for so steep a density: the lower half is compared with Beta(α, α) as a whole
        beta = stats.beta(MIXUP_ALPHA, MIXUP_ALPHA)
        assert stats.kstest(weights[weights < 0.5], lambda x: 2 * beta.cdf(x)).pvalue > 0.001
        for bound in (0.5, 0.9, 0.99):
            assert stats.binomtest(int((weights > bound).sum()), len(weights), beta.sf(bound)).pvalue > 0.001


class TestCutmix:
    def test_the_weight_is_the_share_of_pixels_that_stay(self) -> None:
        torch.manual_seed(0)
        own = torch.arange(20, dtype=torch.uint8)[:, None, None].expand(20, 17, 23)
        for _ in range(50):
            mixed = cutmix(batch_of(own))
            assert mixed.mixed_targets is not None
            stays = mixed.images == own
            other = mixed.images == mixed.mixed_targets[:, None, None]
            assert (stays | other).all()
            different = mixed.mixed_targets != mixed.targets
            shares = stays[different].double().mean((1, 2))
            torch.testing.assert_close(shares, mixed.weight.double().expand_as(shares), atol=1e-6, rtol=0)
            box = ~stays[different][0]
            rows, columns = box.any(1), box.any(0)
            assert torch.equal(box, rows[:, None] & columns)  # a rectangle
            assert torch.equal(box.expand_as(stays[different]), ~stays[different])  # the same in all

    def test_weights_are_distributed_as_in_the_paper(self) -> None:
        """Yun et al. 2019, section 3.1: a box of share 1−λ, λ ~ U(0, 1), about a uniform centre, cut off at borders."""
        torch.manual_seed(0)
        images = torch.zeros(1, 60, 80)
        weights = [cutmix(batch_of(images)).weight.item() for _ in range(1000)]
        generator = np.random.default_rng(0)
        side = np.sqrt(1 - generator.random(20_000))
        x, y = generator.random((2, 20_000))
        columns = np.minimum(x + side / 2, 1) - np.maximum(x - side / 2, 0)
        rows = np.minimum(y + side / 2, 1) - np.maximum(y - side / 2, 0)
        assert stats.ks_2samp(weights, 1 - rows * columns).pvalue > 0.001


class TestBuildAugmentation:
    @pytest.mark.parametrize("name", AUGMENTATIONS)
    def test_the_seed_decides_and_the_input_stays(self, name: AugmentationName) -> None:
        augment = build_augmentation([name])
        for images in (pictures(16, 12, 10), pictures(16, 12, 10).float()):
            kept = images.clone()
            found = []
            for seed in (1, 1, 2):
                torch.manual_seed(seed)
                found.append(augment(batch_of(images)))
            assert torch.equal(found[0].images, found[1].images)
            assert not torch.equal(found[0].images, found[2].images)
            assert torch.equal(images, kept)
            assert found[0].images.shape == images.shape
            assert found[0].images.min() >= 0
            assert found[0].images.max() <= 255.001
            assert (found[0].mixed_targets is not None) == (name in MIXES)
        assert {*ON_IMAGES, *MIXES} == set(AUGMENTATIONS)

    @pytest.mark.parametrize(
        ("names", "functions"),
        [
            (["shift", "erase"], [shift, erase]),
            (["erase", "shift"], [erase, shift]),
            (["affine", "shift", "erase"], [affine, shift, erase]),
            (["mixup", "shift"], [shift, mixup]),
            (["cutmix", "erase", "affine"], [erase, affine, cutmix]),
            ([], []),
        ],
    )
    def test_order(self, names: list[AugmentationName], functions: list[Callable[..., object]]) -> None:
        torch.manual_seed(0)
        found = build_augmentation(names)(batch_of(pictures(16, 12, 10)))
        torch.manual_seed(0)
        batch = batch_of(pictures(16, 12, 10))
        for function in functions:
            batch = function(batch) if function in (mixup, cutmix) else Batch(function(batch.images), batch.targets)
        assert torch.equal(found.images, batch.images)
        assert torch.equal(found.targets, batch.targets)

    @pytest.mark.parametrize("name", AUGMENTATIONS)
    def test_a_batch_of_one_and_a_picture_of_one_pixel(self, name: AugmentationName) -> None:
        torch.manual_seed(0)
        for size in ((1, 9, 9), (3, 1, 1), (3, 1, 7)):
            found = build_augmentation([name])(batch_of(pictures(*size)))
            assert found.images.shape == size
