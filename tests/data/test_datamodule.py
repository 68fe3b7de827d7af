"""Splits, normalization, batch order and shards, compared with counts by hand, scikit-learn, NumPy and one process."""

import hashlib
import struct
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedShuffleSplit
from torch import Tensor

from project.data.augmentation import Batch, rotate
from project.data.datamodule import MAX_TARGET_DEGREES, ImageDataModule
from project.data.loaders import EvaluationLoader, TrainLoader, mix_seed
from project.data.settings import DataSettings
from project.data.sources import table
from project.data.sources.load import ImageDataset, ImageSplit
from project.errors import InputError
from project.task import TaskName

COUNTS = (101, 57, 33, 9)
"""Training examples of each class: no common divisor, so that no share is a whole number."""


def made(task: TaskName = "multiclass", seed: int = 0, **settings: Any) -> ImageDataModule:
    return ImageDataModule(DataSettings(**{"dataset": "idx"} | settings), task=task, seed=seed)


def in_memory(
    train_labels: Sequence[int],
    test_labels: Sequence[int],
    images: tuple[Tensor, Tensor] | None = None,
    **settings: Any,
) -> ImageDataModule:
    """A data module over labels, and random pictures of 4 by 5 pixels if none are given."""
    generator = torch.Generator().manual_seed(1)
    train, test = images or tuple(
        torch.randint(0, 256, (len(labels), 4, 5), dtype=torch.uint8, generator=generator)
        for labels in (train_labels, test_labels)
    )
    datamodule = made(**{"num_validation": 40, "batch_size": 16} | settings)
    names = tuple(f"class {i}" for i in range(max(train_labels) + 1))
    splits = ImageSplit(train, torch.tensor(train_labels)), ImageSplit(test, torch.tensor(test_labels))
    datamodule.data = ImageDataset("idx", *splits, names, "memory", {})
    return datamodule


def shuffled_labels() -> list[int]:
    labels = np.repeat(np.arange(len(COUNTS)), COUNTS)
    return np.random.default_rng(5).permutation(labels).tolist()


def uneven(**settings: Any) -> ImageDataModule:
    return in_memory(shuffled_labels(), [i % 4 for i in range(30)], **settings)


@pytest.mark.parametrize("num_validation", [1, 7, 40, 100, 199])
def test_training_and_validation_share_nothing_and_lose_nothing(num_validation: int) -> None:
    splits = uneven(num_validation=num_validation, batch_size=1).splits
    train, validation = splits["train"].tolist(), splits["validation"].tolist()
    assert len(validation) == num_validation
    assert sorted(train + validation) == list(range(sum(COUNTS)))
    assert splits["test"].tolist() == list(range(30))


@pytest.mark.parametrize("num_validation", [20, 40, 100])
def test_validation_is_stratified_like_scikit_learns(num_validation: int) -> None:
    labels = np.array(shuffled_labels())
    ours = np.bincount(labels[uneven(num_validation=num_validation).splits["validation"].numpy()], minlength=4)
    _, chosen = next(StratifiedShuffleSplit(1, test_size=num_validation, random_state=0).split(labels, labels))
    assert np.abs(ours - np.bincount(labels[chosen], minlength=4)).max() <= 1


@given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=80),
    share=st.floats(0, 1),
    split_seed=st.integers(0, 2**32 - 1),
)
@settings(derandomize=True, deadline=None, max_examples=60)
def test_each_class_has_its_share_to_within_one_example(labels: list[int], share: float, split_seed: int) -> None:
    num = round(share * (len(labels) - 1))
    splits = in_memory(labels, labels, num_validation=num, split_seed=split_seed, batch_size=1).splits
    chosen = Counter(labels[i] for i in splits["validation"].tolist())
    assert chosen.total() == num
    for label, count in Counter(labels).items():
        assert abs(chosen[label] - count * num / len(labels)) < 1


def test_training_examples_are_stratified_too() -> None:
    labels = np.array(shuffled_labels())
    few = uneven(num_train=80).splits["train"].numpy()
    rest = uneven().splits["train"].numpy()
    assert len(few) == 80
    assert np.isin(few, rest).all()
    shares = np.bincount(labels[rest], minlength=4) * 80 / len(rest)
    assert (np.abs(np.bincount(labels[few], minlength=4) - shares) < 1).all()


def test_fewer_training_examples_are_some_of_the_more() -> None:
    even = [i % 4 for i in range(200)]
    sizes = (16, 40, 80, 160)
    splits = [in_memory(even, even, num_train=n).splits for n in sizes]
    for smaller, larger in pairwise(splits):
        assert set(smaller["train"].tolist()) < set(larger["train"].tolist())
        assert torch.equal(smaller["validation"], larger["validation"])


def test_the_split_depends_on_its_own_seed_alone(idx_folder: Path) -> None:
    def splits(**settings: Any) -> dict[Any, Tensor]:
        return made(root=str(idx_folder), num_validation=40, batch_size=32, **settings).splits

    first = splits(seed=0)
    for again in (splits(seed=0), splits(seed=7), splits(seed=0, normalization="unit", augmentation="shift")):
        assert all(torch.equal(first[name], again[name]) for name in first)
    other = splits(split_seed=1)
    assert not torch.equal(first["validation"], other["validation"])
    assert torch.equal(first["test"], other["test"])


def test_setting_up_twice_changes_nothing(idx_folder: Path) -> None:
    datamodule = made(root=str(idx_folder), num_validation=40, batch_size=32)
    found = []
    for _ in range(2):
        datamodule.prepare_data()
        datamodule.setup("fit")
        batches = [batch.images for batch in datamodule.train_dataloader()]
        found.append([indices.clone() for indices in datamodule.splits.values()] + batches)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_hashes_are_of_the_indices() -> None:
    datamodule = uneven()
    for name, indices in datamodule.splits.items():
        packed = b"".join(struct.pack("<q", i) for i in indices.tolist())
        assert datamodule.split_sha256[name] == hashlib.sha256(packed).hexdigest()
    assert len(set(datamodule.split_sha256.values())) == 3


def test_no_loader_mixes_splits() -> None:
    datamodule = uneven()
    for level, split in enumerate(("train", "validation", "test")):  # a gray level of its own for each split
        datamodule.source(split).images[datamodule.splits[split]] = level
    assert {int(level) for batch in datamodule.train_dataloader() for level in batch.images.unique()} == {0}
    for level, loaded in ((1, datamodule.val_dataloader()), (2, datamodule.test_dataloader())):
        assert {int(level) for batch, _ in loaded for level in batch.images.unique()} == {level}
    datamodule.scored_split = "validation"
    assert {int(level) for batch, _ in datamodule.test_dataloader() for level in batch.images.unique()} == {1}


@pytest.mark.parametrize("mode", ["standardize", "feature_standardize"])
def test_statistics_come_from_the_training_split_alone(mode: Any) -> None:
    datamodule = uneven(normalization=mode)
    images = datamodule.data.train.images.clone()
    pixels = images[datamodule.splits["train"]].numpy().reshape(-1, 20).astype(np.float64)
    axis = 0 if mode == "feature_standardize" else None
    mean, sd = pixels.mean(axis), pixels.std(axis)
    shift, scale = datamodule.normalization.shift, datamodule.normalization.scale
    np.testing.assert_allclose(shift, mean, rtol=1e-6)
    np.testing.assert_allclose(scale, 1 / sd, rtol=1e-6)

    # whatever happens to the other splits' pixels
    images[datamodule.splits["validation"]] = 255
    labels = shuffled_labels()
    other = in_memory(labels, [i % 4 for i in range(30)], (images, images[:30] * 0), normalization=mode)
    assert torch.equal(other.normalization.shift, shift)
    assert torch.equal(other.normalization.scale, scale)
    images[datamodule.splits["train"][0]] ^= 255
    assert not torch.equal(in_memory(labels, labels, (images, images), normalization=mode).normalization.shift, shift)

    # and they are applied to all of them
    for split in ("train", "validation", "test"):
        [(batch, _), *_] = list(datamodule.evaluation_loader(split))
        expected = (batch.images.numpy().reshape(-1, 20) - mean) / sd
        np.testing.assert_allclose(datamodule.normalization(batch.images), expected, atol=1e-5)


def test_real_data(real_data: Path) -> None:
    datamodule = ImageDataModule(DataSettings(root=str(real_data), download=False))
    assert [len(datamodule.splits[name]) for name in ("train", "validation", "test")] == [55_000, 5_000, 10_000]
    labels = datamodule.data.train.labels[datamodule.splits["validation"]]
    assert labels.bincount().tolist() == [500] * 10
    # 0.2860 and 0.3530 are what everybody uses for FashionMNIST's 60,000 training pictures
    assert float(datamodule.normalization.shift) / 255 == pytest.approx(0.2860, abs=5e-4)
    assert 1 / float(datamodule.normalization.scale) / 255 == pytest.approx(0.3530, abs=5e-4)
    assert (datamodule.spec.height, datamodule.spec.width, datamodule.spec.num_outputs) == (28, 28, 10)
    assert datamodule.num_steps_per_epoch == 55_000 // 256


def loader(num: int = 100, batch_size: int = 12, **settings: Any) -> TrainLoader:
    """A loader over pictures that hold their own number, of which every second belongs to the training split."""
    numbers = torch.arange(2 * num)
    images = torch.stack((numbers % 256, numbers // 256), dim=1).to(torch.uint8).reshape(-1, 1, 2)
    return TrainLoader(images, numbers, torch.arange(0, 2 * num, 2), batch_size, **{"seed": 3} | settings)


def numbers(batches: Any) -> list[list[int]]:
    return [batch.targets.tolist() for batch in batches]


def test_an_epoch_has_each_example_at_most_once_in_full_batches() -> None:
    train = loader()
    batches = numbers(train)
    for batch in train:
        pixels = batch.images.long()  # they hold the number of their target
        assert torch.equal(pixels[:, 0, 0] + 256 * pixels[:, 0, 1], batch.targets)
    flat = [number for batch in batches for number in batch]
    assert len(train) == len(batches) == 100 // 12
    assert {len(batch) for batch in batches} == {12}
    assert len(set(flat)) == len(flat)
    assert all(number % 2 == 0 for number in flat)
    assert flat != sorted(flat)


def test_order_is_a_function_of_seed_and_epoch() -> None:
    used, fresh = loader(), loader()
    epochs = []
    for epoch in range(4):
        torch.rand(epoch * 7)  # what else was drawn does not matter
        used.set_epoch(epoch)
        epochs.append(numbers(used))
    fresh.set_epoch(2)
    assert numbers(fresh) == epochs[2]
    assert all(a != b for i, a in enumerate(epochs) for b in epochs[:i])
    assert numbers(loader(seed=4)) != epochs[0]


def test_orders_are_even() -> None:
    """Each example comes first about equally often: 20 examples, 2,000 epochs, χ² with 19 degrees of freedom."""
    train = loader(num=20, batch_size=1)
    counts: Counter[int] = Counter()
    for epoch in range(2000):
        train.set_epoch(epoch)
        counts[int(train.epoch_order()[0])] += 1
    chi_square = sum((counts[2 * i] - 100) ** 2 / 100 for i in range(20))
    assert chi_square < 43.8  # 99.9 % quantile


@given(
    num=st.integers(8, 90),
    part=st.integers(1, 5),
    world_size=st.sampled_from([1, 2, 4]),
    accumulate=st.sampled_from([1, 2]),
    epoch=st.integers(0, 1000),
)
@settings(derandomize=True, deadline=None, max_examples=80)
def test_shards_make_up_the_single_process_batch(
    num: int, part: int, world_size: int, accumulate: int, epoch: int
) -> None:
    batch_size = part * world_size * accumulate
    single = loader(num, batch_size)
    single.set_epoch(epoch)
    shards = [
        loader(num, batch_size, rank=rank, world_size=world_size, accumulate=accumulate) for rank in range(world_size)
    ]
    for shard in shards:
        shard.sampler.set_epoch(epoch)
    parts = [numbers(shard) for shard in shards]
    steps = numbers(single)
    assert {len(batches) for batches in parts} == {len(steps) * accumulate}
    for step, whole in enumerate(steps):
        pieces = [parts[rank][step * accumulate + k] for k in range(accumulate) for rank in range(world_size)]
        assert [number for piece in pieces for number in piece] == whole


def test_a_position_is_resumed_exactly() -> None:
    whole = numbers(loader())
    for stop in range(1, len(whole)):
        first = loader()
        batches = iter(first)
        seen = [next(batches).targets.tolist() for _ in range(stop)]
        state = first.state_dict()
        assert state == {"position": stop}
        second = loader()
        second.load_state_dict(state)
        assert seen + numbers(second) == whole


def test_the_position_wraps_at_the_end_of_an_epoch() -> None:
    train = loader()
    batches = iter(train)
    positions = []
    for _ in batches:
        positions.append(train.state_dict()["position"])
    assert positions == [1, 2, 3, 4, 5, 6, 7, 0]
    resumed = loader()
    resumed.load_state_dict(train.state_dict())
    assert len(numbers(resumed)) == len(train)  # a whole epoch, not an empty one
    assert len(numbers(resumed)) == len(train)  # and the position is used once


def noisy(batch: Batch) -> Batch:
    """What an augmentation does: draw from the default generator."""
    return Batch(torch.rand(3), batch.targets)


def test_a_batchs_randomness_does_not_depend_on_what_ran_before() -> None:
    whole = [(batch.images, torch.rand(2)) for batch in loader(transform=noisy)]  # torch.rand: dropout, later
    torch.manual_seed(99)
    resumed = loader(transform=noisy)
    resumed.load_state_dict({"position": 5})
    for number, batch in enumerate(resumed, 5):
        assert torch.equal(batch.images, whole[number][0])
        assert torch.equal(torch.rand(2), whole[number][1])
        torch.rand(number)


def test_randomness_differs_by_seed_rank_epoch_and_batch() -> None:
    draws = []
    for settings_ in ({}, {"seed": 8}, {"rank": 1, "world_size": 2}):
        for epoch in (0, 1):
            train = loader(transform=noisy, **settings_)
            train.set_epoch(epoch)
            draws += [tuple(batch.images.tolist()) for batch in train]
    assert len(set(draws)) == len(draws) == 6 * 8


def test_mixing_seeds_is_splitmix64() -> None:
    assert mix_seed(1234567) == 6457827717110365317 >> 1  # first output of the reference implementation
    few = [mix_seed(*parts) for parts in ((0,), (0, 0), (0, 1), (1, 0), (1, 1), (2**64 - 1, 5), (0, 0, 0))]
    assert len(set(few)) == len(few)
    assert all(0 <= seed < 2**63 for seed in few)


@given(num=st.integers(1, 70), world_size=st.integers(1, 11))
@settings(derandomize=True, deadline=None, max_examples=80)
def test_an_evaluation_scores_each_example_once(num: int, world_size: int) -> None:
    indices = torch.randperm(num + 5, generator=torch.Generator().manual_seed(num))[:num]
    images = torch.arange(num + 5).to(torch.uint8).reshape(-1, 1, 1)
    seen = {}
    lengths = []
    for rank in range(world_size):
        shard = EvaluationLoader(images, indices * 10, indices, rank, world_size)
        lengths.append(len(list(shard)))
        assert lengths[-1] == len(shard)
        for batch, positions in shard:
            for image, target, position in zip(batch.images, batch.targets, positions, strict=True):
                assert int(position) not in seen
                seen[int(position)] = (int(image), int(target))
    assert seen == {i: (int(index), int(index) * 10) for i, index in enumerate(indices)}
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("num", [3, 8, 57, 5000])
@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_chunks_do_not_depend_on_the_number_of_processes(num: int, world_size: int) -> None:
    images, indices = torch.zeros(num, 1, 1, dtype=torch.uint8), torch.arange(num)
    single = [positions.tolist() for _, positions in EvaluationLoader(images, indices, indices)]
    shards = [
        [positions.tolist() for _, positions in EvaluationLoader(images, indices, indices, rank, world_size)]
        for rank in range(world_size)
    ]
    assert sorted(chunk for shard in shards for chunk in shard) == sorted(single)
    assert max(map(len, single)) <= 2048


def test_rotation_targets_are_fixed_for_validation_and_test() -> None:
    def scored(split: Any, **settings: Any) -> tuple[Tensor, Tensor]:
        chunks = list(uneven(task="regression", target="rotation", **settings).evaluation_loader(split))
        return torch.cat([b.images for b, _ in chunks]), torch.cat([b.targets for b, _ in chunks])

    angles = []
    for split in ("train", "validation", "test"):
        images, degrees = scored(split)
        angles.append(degrees)
        again, same = scored(split, seed=5, normalization="unit")
        assert torch.equal(images, again)
        assert torch.equal(degrees, same)
        assert degrees.abs().max() <= MAX_TARGET_DEGREES
        datamodule = uneven()
        upright = datamodule.source(split).images[datamodule.splits[split]]
        torch.testing.assert_close(images, rotate(upright, degrees))
    assert not torch.equal(angles[1][:30], angles[2])
    assert not torch.equal(scored("test", split_seed=1)[1], angles[2])


def test_rotation_targets_are_new_in_every_epoch_of_training() -> None:
    datamodule = uneven(task="regression", target="rotation")
    train = datamodule.train_dataloader()
    first = torch.cat([batch.targets for batch in train])
    train.set_epoch(1)
    second = torch.cat([batch.targets for batch in train])
    assert first.dtype == torch.float32
    assert not set(first.tolist()) & set(second.tolist())
    assert first.abs().max() <= MAX_TARGET_DEGREES
    assert first.abs().max() > 0.8 * MAX_TARGET_DEGREES
    assert (datamodule.spec.target_mean, datamodule.spec.target_sd) == (0, pytest.approx(90 / 12**0.5))


def test_the_training_pictures_are_turned_by_their_targets() -> None:
    # a bright bar to the right of the centre: turned by θ it lies at the angle θ
    images = torch.zeros(64, 41, 41, dtype=torch.uint8)
    images[:, 19:22, 21:] = 255
    labels = [0, 1] * 32
    settings_ = {"task": "regression", "target": "rotation", "num_validation": 0, "batch_size": 64}
    [batch] = in_memory(labels, labels, (images, images), **settings_).train_dataloader()
    rows, columns = torch.meshgrid(torch.arange(41.0) - 20, torch.arange(41.0) - 20, indexing="ij")
    up, right = (-rows * batch.images).sum((1, 2)), (columns * batch.images).sum((1, 2))
    torch.testing.assert_close(torch.rad2deg(torch.atan2(up, right)), batch.targets, atol=0.5, rtol=0)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_chosen_classes_are_renumbered_in_the_order_given(task: Any) -> None:
    datamodule = uneven(task=task, classes=[2, 0], num_validation=30)
    labels = np.array(shuffled_labels())
    for split in ("train", "validation"):
        assert set(labels[datamodule.splits[split].numpy()]) == {0, 2}
    assert [i % 4 for i in datamodule.splits["test"].tolist()] == [0, 2] * 7 + [0]
    for split in ("train", "validation", "test"):
        official = datamodule.source(split).labels
        for batch, positions in datamodule.evaluation_loader(split):
            true = official[datamodule.splits[split][positions]]
            assert torch.equal(batch.targets, (true == 0).long())
    assert all(set(batch.targets.tolist()) <= {0, 1} for batch in datamodule.train_dataloader())
    assert datamodule.spec.class_names == ("class 2", "class 0")
    assert datamodule.spec.num_outputs == (1 if task == "binary" else 2)
    validation = Counter(labels[datamodule.splits["validation"].numpy()].tolist())
    assert abs(validation[0] - 30 * COUNTS[0] / (COUNTS[0] + COUNTS[2])) < 1


def test_a_label_as_target_is_scaled_by_the_training_split() -> None:
    datamodule = uneven(task="regression")
    labels = np.array(shuffled_labels())[datamodule.splits["train"].numpy()]
    assert datamodule.spec.target_mean == pytest.approx(labels.mean())
    assert datamodule.spec.target_sd == pytest.approx(labels.std())
    assert (datamodule.spec.num_outputs, datamodule.spec.class_names) == (1, ())
    assert next(iter(datamodule.train_dataloader())).targets.dtype == torch.float32


def test_no_validation() -> None:
    datamodule = uneven(num_validation=0)
    assert datamodule.val_dataloader() == []
    assert len(datamodule.splits["train"]) == sum(COUNTS)


@pytest.mark.parametrize(
    ("name", "value", "others"),
    [
        *((name, -1, {}) for name in ("num_validation", "split_seed", "size", "label_noise")),
        *((name, 0, {}) for name in ("batch_size", "num_train")),
        *(("classes", classes, {}) for classes in ([1], [], [0, 1, 0])),
        *(("classes", classes, {"task": "binary"}) for classes in (None, [1, 1], [0, 1, 2])),
        *(("dataset", "cifar100", {}), ("normalization", "zscore", {}), ("augmentation", ["shift", "flip"], {})),
        *(("augmentation", names, {}) for names in (["shift", "shift"], ["mixup", "cutmix"])),
        ("target", "rotation", {}),
        ("target", "rotation", {"task": "regression", "augmentation": ["affine"]}),
    ],
)
def test_settings_that_make_no_sense(name: str, value: Any, others: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"data.{name}") as caught:
        uneven(**{name: value}, **others)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("wrong", "limit"),
    [
        ({"num_validation": 200}, "200"),
        ({"num_validation": 150, "num_train": 51}, "200"),
        *(({"classes": classes}, "0 to 3") for classes in ([0, 9], [-1, 2])),
    ],
)
def test_settings_that_do_not_fit_the_data(wrong: dict[str, Any], limit: str) -> None:
    for question in ("splits", "spec", "normalization"):
        with pytest.raises(InputError, match=limit):
            getattr(uneven(**wrong), question)


def test_a_test_set_without_the_chosen_classes() -> None:
    with pytest.raises(InputError, match="--data"):
        _ = in_memory([0, 1, 2] * 20, [0] * 5, classes=[1, 2], num_validation=4).splits


@pytest.mark.parametrize(
    ("batch_size", "parts", "batch_norm", "better"),
    [
        (161, (1, 1), False, 160),
        *((30, parts, False, 28) for parts in ((4, 1), (2, 2))),
        (3, (4, 1), False, 4),
        (1, (1, 1), True, 2),
        (4, (2, 2), True, 8),
    ],
)
def test_batches_that_cannot_be_made(batch_size: int, parts: tuple[int, int], batch_norm: bool, better: int) -> None:
    with pytest.raises(InputError) as caught:
        uneven(batch_size=batch_size).check_batches(*parts, batch_norm=batch_norm)
    assert f"--data.batch_size {better}" in caught.value.remedy


@pytest.mark.parametrize(("batch_size", "parts"), [(160, (1, 1)), (28, (4, 1)), (8, (2, 2)), (2, (1, 1))])
def test_batches_that_can_be_made(batch_size: int, parts: tuple[int, int]) -> None:
    uneven(batch_size=batch_size).check_batches(*parts, batch_norm=True)


@pytest.mark.parametrize(("num", "expected"), [(5, 1), (20, 2), (200, 20), (49_999, 4999), (60_000, 5000)])
def test_validation_scales_with_the_data(num: int, expected: int) -> None:
    labels = [i % 2 for i in range(num)]
    images = torch.zeros(num, 1, 1, dtype=torch.uint8), torch.zeros(2, 1, 1, dtype=torch.uint8)
    datamodule = in_memory(labels, [0, 1], images, num_validation="auto", batch_size=1)
    assert datamodule.num_validation == len(datamodule.splits["validation"]) == expected


def test_the_automatic_number_is_of_the_chosen_classes() -> None:
    assert uneven(num_validation="auto", classes=[0, 1]).num_validation == 15  # of 101 + 57


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_label_noise_redraws_its_share_of_the_training_split_alone(share: float) -> None:
    labels = [i % 5 for i in range(2000)]
    clean, noisy, other = (
        in_memory(labels, labels, label_noise=part, split_seed=seed) for part, seed in ((0, 0), (share, 0), (share, 1))
    )
    train = clean.splits["train"]
    changed = clean.targets("train") != noisy.targets("train")
    drawn = round(share * len(train))
    # a redrawn label is right by chance in one of five: four standard deviations of that number
    assert abs(int(changed.sum()) - 0.8 * drawn) <= 4 * (0.16 * drawn) ** 0.5
    assert int(changed[train].sum()) == int(changed.sum())
    assert not changed[clean.splits["validation"]].any()
    assert torch.equal(clean.targets("test"), noisy.targets("test"))
    assert torch.equal(noisy.targets("train"), noisy.targets("train"))
    if share == 1:
        assert not torch.equal(noisy.targets("train")[train], other.targets("train")[other.splits["train"]])
        counts = noisy.targets("train")[train].bincount()
        expected = len(train) / 5
        assert float(((counts - expected) ** 2 / expected).sum()) < 18.5  # chi-square with 4 degrees, p = 0.001
    batch = next(iter(noisy.train_dataloader()))
    assert set(batch.targets.tolist()) <= set(range(5))


def test_label_noise_is_among_the_chosen_classes() -> None:
    noisy = uneven(classes=[2, 0], label_noise=1.0)
    assert set(noisy.targets("train")[noisy.splits["train"]].tolist()) == {0, 1}


def test_label_noise_is_for_classes() -> None:
    with pytest.raises(InputError, match="label_noise"):
        made("regression", label_noise=0.1)


def test_one_class_is_refused() -> None:
    datamodule = made(num_validation=0)
    images = torch.zeros(9, 2, 2, dtype=torch.uint8)
    one = ImageSplit(images, torch.zeros(9, dtype=torch.int64))
    with pytest.MonkeyPatch.context() as patched:
        row = table.Source(lambda _: ImageDataset("idx", one, one, ("only",), "memory", {}))
        patched.setitem(table.SOURCES, "idx", row)
        with pytest.raises(InputError, match="one class"):
            _ = datamodule.spec
        with pytest.raises(InputError, match="one number"):
            _ = made("regression", num_validation=0).spec
        assert made("regression", num_validation=0, target="rotation").spec.num_outputs == 1


@pytest.mark.parametrize("chosen", [{"num_train": 1}, {"classes": [0, 1]}])
def test_a_training_split_of_one_class_is_refused(chosen: dict[str, Any]) -> None:
    """The class named in between has no example, as can be in a user's own files."""
    with pytest.raises(InputError, match="one class"):
        _ = in_memory([0, 2] * 60, [0, 2] * 5, **chosen).spec
