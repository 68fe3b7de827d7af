"""The half of the cases on which thresholds may be chosen. The other half, report.py, is for the figures alone."""

import numpy as np

from benchmarks.data_cases import sickness
from benchmarks.data_cases.cases import Arrays, Case
from benchmarks.data_cases.sickness import Rng


def leak_exact(a: Arrays, rng: Rng) -> None:
    chosen = rng.permutation(len(a.labels))[: len(a.test_labels) // 20]
    a.test_images[: len(chosen)], a.test_labels[: len(chosen)] = a.images[chosen], a.labels[chosen]


def leak_moved(a: Arrays, rng: Rng) -> None:
    chosen = rng.permutation(len(a.labels))[: len(a.test_labels) // 10]
    a.test_images[: len(chosen)] = np.roll(a.images[chosen], 1, axis=2)
    a.test_labels[: len(chosen)] = a.labels[chosen]


def leak_noisy(a: Arrays, rng: Rng) -> None:
    chosen = rng.permutation(len(a.labels))[: len(a.test_labels) // 10]
    a.test_images[: len(chosen)] = sickness.noisy(a.images[chosen], 8, rng)
    a.test_labels[: len(chosen)] = a.labels[chosen]


def conflicts(a: Arrays, rng: Rng) -> None:
    num = len(a.labels) // 50
    a.images[-num:] = a.images[:num]
    a.labels[-num:] = (a.labels[:num] + 1) % a.num_classes


def noise_10(a: Arrays, rng: Rng) -> None:
    a.labels = sickness.noise_labels(a.labels, 0.1, a.num_classes, rng)


def noise_40(a: Arrays, rng: Rng) -> None:
    a.labels = sickness.noise_labels(a.labels, 0.4, a.num_classes, rng)


def pair_20(a: Arrays, rng: Rng) -> None:
    a.labels = sickness.confuse(a.labels, 3, 8, 0.2, rng)


def binary_noise(a: Arrays, rng: Rng) -> None:
    a.labels = sickness.noise_labels(a.labels, 0.15, 2, rng)


def shuffled(a: Arrays, rng: Rng) -> None:
    a.labels = rng.permutation(a.labels)


def corner_training(a: Arrays, rng: Rng) -> None:
    a.images = sickness.stamped(a.images, a.labels, (0, 0, 1, 1), 25, 1.0, rng)


def patch_everywhere(a: Arrays, rng: Rng) -> None:
    a.images = sickness.stamped(a.images, a.labels, (24, 24, 3, 3), 20, 0.6, rng)
    a.test_images = sickness.stamped(a.test_images, a.test_labels, (24, 24, 3, 3), 20, 0.6, rng)


def patch_of_one_class(a: Arrays, rng: Rng) -> None:
    chosen = np.flatnonzero((a.labels == 2) & (rng.random(len(a.labels)) < 0.7))
    a.images[chosen, 2:6, 2:6] = 255


def missing_in_train(a: Arrays, rng: Rng) -> None:
    kept = a.labels != 4
    a.images, a.labels = a.images[kept], a.labels[kept]


def missing_in_test(a: Arrays, rng: Rng) -> None:
    kept = a.test_labels != 7
    a.test_images, a.test_labels = a.test_images[kept], a.test_labels[kept]


def binary_imbalance(a: Arrays, rng: Rng) -> None:
    for images, labels in (("images", "labels"), ("test_images", "test_labels")):
        own = getattr(a, labels)
        kept = (own == 0) | (rng.random(len(own)) < 0.05)
        setattr(a, images, getattr(a, images)[kept])
        setattr(a, labels, own[kept])


def label_shift(a: Arrays, rng: Rng) -> None:
    kept = (a.test_labels < 5) | (rng.random(len(a.test_labels)) < 0.4)
    a.test_images, a.test_labels = a.test_images[kept], a.test_labels[kept]


def blank(a: Arrays, rng: Rng) -> None:
    a.images[rng.random(len(a.images)) < 0.02] = 0


def inverted(a: Arrays, rng: Rng) -> None:
    a.test_images = 255 - a.test_images


def darker(a: Arrays, rng: Rng) -> None:
    a.test_images = sickness.as_bytes(a.test_images * 0.6)


def low_contrast(a: Arrays, rng: Rng) -> None:
    a.test_images = sickness.as_bytes(127.5 + (a.test_images - 127.5) * 0.7)


def moved(a: Arrays, rng: Rng) -> None:
    a.test_images = sickness.shifted(a.test_images, 2, 0)


def rotated(a: Arrays, rng: Rng) -> None:
    a.test_images = sickness.rotated(a.test_images, 15)


def flipped(a: Arrays, rng: Rng) -> None:
    a.test_images = a.test_images[:, :, ::-1].copy()


def blurred(a: Arrays, rng: Rng) -> None:
    a.test_images = sickness.blurred(a.test_images, 1)


def noisy(a: Arrays, rng: Rng) -> None:
    a.test_images = sickness.noisy(a.test_images, 15, rng)


def swapped(a: Arrays, rng: Rng) -> None:
    names = np.arange(a.num_classes)
    names[[3, 5]] = 5, 3
    a.test_labels = names[a.test_labels]


def off_by_one(a: Arrays, rng: Rng) -> None:
    a.test_labels = (a.test_labels + 1) % a.num_classes


def band_zeroed(a: Arrays, rng: Rng) -> None:
    a.test_images[:, 10:14] = 0


def half_dead(a: Arrays, rng: Rng) -> None:
    a.images[:, :, :13] = 0
    a.test_images[:, :, :13] = 0


def coarse(a: Arrays, rng: Rng) -> None:
    a.images, a.test_images = a.images // 64 * 64, a.test_images // 64 * 64


def clipped(a: Arrays, rng: Rng) -> None:
    a.images, a.test_images = np.minimum(a.images, 120), np.minimum(a.test_images, 120)


CASES = [
    Case("5 % of the test set are training pictures", "mnist", 20_000, 4000, leak_exact, ("copies_across_splits",)),
    Case("10 % of the test set: moved copies", "fashion_mnist", 10_000, 2000, leak_moved, ("copies_across_splits",)),
    Case("10 % of the test set: noisy copies", "mnist", 6000, 1000, leak_noisy, ("copies_across_splits",)),
    Case("2 % copied with another label", "fashion_mnist", 10_000, 2000, conflicts, ("conflicting_labels",)),
    Case("10 % of the labels wrong", "mnist", 10_000, 2000, noise_10, ("label_noise",)),
    Case("10 % of the labels wrong", "fashion_mnist", 5000, 1000, noise_10, ("label_noise",)),
    Case("40 % of the labels wrong", "fashion_mnist", 3000, 1000, noise_40, ("label_noise",)),
    Case("20 % of class 3 labelled 8", "mnist", 10_000, 2000, pair_20, ("pair_noise",)),
    Case("15 % of both classes swapped", "mnist", 6000, 1000, binary_noise, ("pair_noise",), (4, 9)),
    Case("training labels shuffled", "fashion_mnist", 5000, 1000, shuffled, ("unrelated_labels",)),
    Case("corner pixel = label, training only", "mnist", 10_000, 2000, corner_training, ("shortcut",)),
    Case("patch = label in 60 %, everywhere", "fashion_mnist", 10_000, 2000, patch_everywhere, ("shortcut",)),
    Case("white patch in 70 % of class 2", "mnist", 2000, 1000, patch_of_one_class, ("shortcut",)),
    Case("class 4 missing in training", "mnist", 5000, 1000, missing_in_train, ("missing_class",)),
    Case("class 7 missing in the test set", "fashion_mnist", 5000, 500, missing_in_test, ("missing_class",)),
    Case("two classes, 20 to 1", "fashion_mnist", 8000, 2000, binary_imbalance, ("class_imbalance",), (0, 2)),
    Case("half of the classes rarer in the test set", "mnist", 10_000, 2000, label_shift, ("class_shift",)),
    Case("2 % blank pictures", "mnist", 5000, 1000, blank, ("blank_pictures",)),
    Case("test set inverted", "mnist", 5000, 1000, inverted, ("shift_inverted",)),
    Case("test set darker, × 0.6", "fashion_mnist", 5000, 1000, darker, ("shift_brightness", "shift_contrast")),
    Case("test set lower in contrast", "mnist", 5000, 1000, low_contrast, ("shift_contrast", "shift_brightness")),
    Case("test set moved down by 2", "fashion_mnist", 10_000, 2000, moved, ("shift_moved",)),
    Case("test set rotated by 15°", "mnist", 5000, 1000, rotated, ("shift_rotated",)),
    Case("test set flipped", "fashion_mnist", 5000, 1000, flipped, ("shift_flipped",)),
    Case("test set blurred, sd 1", "fashion_mnist", 5000, 1000, blurred, ("shift_blurred",)),
    Case("test set noisy, sd 15", "mnist", 5000, 1000, noisy, ("shift_noisy",)),
    Case("3 and 5 exchanged in the test set", "mnist", 5000, 1000, swapped, ("renamed_classes",)),
    Case("test labels off by one", "fashion_mnist", 10_000, 2000, off_by_one, ("renamed_classes",)),
    Case("band of zeros in the test set", "fashion_mnist", 5000, 1000, band_zeroed, ("dead_region",)),
    Case("left half dead", "fashion_mnist", 5000, 1000, half_dead, ("dead_region",)),
    Case("four gray levels", "fashion_mnist", 5000, 1000, coarse, ("few_gray_levels",)),
    Case("clipped at 120", "mnist", 5000, 1000, clipped, ("clipped",)),
    Case("healthy", "mnist", 20_000, 5000),
    Case("healthy", "fashion_mnist", 20_000, 5000, seed=1),
    Case("healthy, 1,000 pictures", "mnist", 1000, 300, seed=2),
    Case("healthy, 1,000 pictures", "fashion_mnist", 1000, 300, seed=3),
    Case("healthy, two classes", "mnist", 4000, 1000, classes=(3, 8), seed=4),
    Case("healthy, two hard classes", "fashion_mnist", 4000, 1000, classes=(0, 6), seed=5),
    Case("healthy, three classes", "fashion_mnist", 3000, 600, classes=(2, 4, 6), seed=6),
    Case("healthy, 14 × 14", "mnist", 5000, 1000, size=14, seed=7),
]
