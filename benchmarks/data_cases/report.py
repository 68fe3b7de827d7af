"""The half of the cases that is run for the figures only: no threshold was chosen on it.

It has other kinds, strengths, sizes, and pairings with the data sets than development.py.
"""

import numpy as np

from benchmarks.data_cases import sickness
from benchmarks.data_cases.cases import Arrays, Case
from benchmarks.data_cases.sickness import Rng


def leak_compressed(a: Arrays, rng: Rng) -> None:
    chosen = rng.permutation(len(a.labels))[: len(a.test_labels) // 12]
    a.test_images[: len(chosen)] = sickness.compressed(a.images[chosen], 50)
    a.test_labels[: len(chosen)] = a.labels[chosen]


def leak_darker(a: Arrays, rng: Rng) -> None:
    chosen = rng.permutation(len(a.labels))[: len(a.test_labels) // 15]
    a.test_images[: len(chosen)] = sickness.as_bytes(a.images[chosen] * 0.85)
    a.test_labels[: len(chosen)] = a.labels[chosen]


def doubled(a: Arrays, rng: Rng) -> None:
    """Every fifth training picture twice: a random split then puts copies into validation."""
    again = np.arange(0, len(a.labels), 5)
    a.images, a.labels = np.concatenate([a.images, a.images[again]]), np.concatenate([a.labels, a.labels[again]])


def conflicts_moved(a: Arrays, rng: Rng) -> None:
    num = len(a.labels) // 30
    a.images[-num:] = np.roll(a.images[:num], -1, axis=1)
    a.labels[-num:] = (a.labels[:num] + 3) % a.num_classes


def noise_5(a: Arrays, rng: Rng) -> None:
    a.labels = sickness.noise_labels(a.labels, 0.05, a.num_classes, rng)


def noise_25(a: Arrays, rng: Rng) -> None:
    a.labels = sickness.noise_labels(a.labels, 0.25, a.num_classes, rng)


def noise_60(a: Arrays, rng: Rng) -> None:
    a.labels = sickness.noise_labels(a.labels, 0.6, a.num_classes, rng)


def pair_35(a: Arrays, rng: Rng) -> None:
    a.labels = sickness.confuse(a.labels, 7, 1, 0.35, rng)


def pair_in_test(a: Arrays, rng: Rng) -> None:
    a.test_labels = sickness.confuse(a.test_labels, 0, 9, 0.3, rng)


def binary_one_sided(a: Arrays, rng: Rng) -> None:
    a.labels = sickness.confuse(a.labels, 1, 0, 0.25, rng)


def test_shuffled(a: Arrays, rng: Rng) -> None:
    a.test_labels = rng.permutation(a.test_labels)


def mark_inside(a: Arrays, rng: Rng) -> None:
    a.images = sickness.stamped(a.images, a.labels, (1, 13, 2, 2), 22, 1.0, rng)
    a.test_images = sickness.stamped(a.test_images, a.test_labels, (1, 13, 2, 2), 22, 1.0, rng)


def stripe(a: Arrays, rng: Rng) -> None:
    a.images = sickness.stamped(a.images, a.labels, (26, 0, 1, 28), 18, 0.8, rng)


def dot_in_one_class(a: Arrays, rng: Rng) -> None:
    for images, labels in ((a.images, a.labels), (a.test_images, a.test_labels)):
        images[labels == 1, 0, 13] = 255


def rare_class(a: Arrays, rng: Rng) -> None:
    kept = (a.labels != 6) | (rng.random(len(a.labels)) < 0.08)
    a.images, a.labels = a.images[kept], a.labels[kept]


def rare_in_test(a: Arrays, rng: Rng) -> None:
    kept = (a.test_labels > 1) | (rng.random(len(a.test_labels)) < 0.3)
    a.test_images, a.test_labels = a.test_images[kept], a.test_labels[kept]


def missing_two(a: Arrays, rng: Rng) -> None:
    kept = ~np.isin(a.test_labels, (0, 5))
    a.test_images, a.test_labels = a.test_images[kept], a.test_labels[kept]


def blank_white(a: Arrays, rng: Rng) -> None:
    a.test_images[rng.random(len(a.test_images)) < 0.05] = 255


def inverted(a: Arrays, rng: Rng) -> None:
    a.test_images = 255 - a.test_images


def brighter(a: Arrays, rng: Rng) -> None:
    a.test_images = sickness.as_bytes(a.test_images * 1.4)


def lifted(a: Arrays, rng: Rng) -> None:
    a.test_images = sickness.as_bytes(a.test_images + 30.0)


def moved(a: Arrays, rng: Rng) -> None:
    a.test_images = sickness.shifted(a.test_images, -1, 3)


def rotated(a: Arrays, rng: Rng) -> None:
    a.test_images = sickness.rotated(a.test_images, -25)


def upside_down(a: Arrays, rng: Rng) -> None:
    a.test_images = a.test_images[:, ::-1].copy()


def some_rotated(a: Arrays, rng: Rng) -> None:
    chosen = rng.random(len(a.test_images)) < 0.4
    a.test_images[chosen] = np.rot90(a.test_images[chosen], 1, (1, 2))


def blurred(a: Arrays, rng: Rng) -> None:
    a.test_images = sickness.blurred(a.test_images, 0.8)


def noisy(a: Arrays, rng: Rng) -> None:
    a.test_images = sickness.noisy(a.test_images, 25, rng)


def reversed_names(a: Arrays, rng: Rng) -> None:
    a.test_labels = a.num_classes - 1 - a.test_labels


def columns_zeroed(a: Arrays, rng: Rng) -> None:
    a.images[:, :, 12:15] = 0


def stuck(a: Arrays, rng: Rng) -> None:
    for images in (a.images, a.test_images):
        images[:, 18:] = 200


def eight_levels(a: Arrays, rng: Rng) -> None:
    a.images, a.test_images = a.images // 32 * 32, a.test_images // 32 * 32


def saturated(a: Arrays, rng: Rng) -> None:
    a.images, a.test_images = (sickness.as_bytes(images * 4.0) for images in (a.images, a.test_images))


CONFLICT = ("conflicting_labels",)
LEAK = ("copies_across_splits",)
# fmt: off
CASES = [
    Case("8 % of the test set: compressed copies", "fashion_mnist", 8000, 1500, leak_compressed, LEAK, seed=20),
    Case("7 % of the test set: darker copies", "mnist", 30_000, 3000, leak_darker, LEAK, seed=21),
    Case("every fifth picture twice", "fashion_mnist", 5000, 1000, doubled, (*LEAK, "copies"), seed=22),
    Case("3 % copied with another label, moved", "mnist", 6000, 1000, conflicts_moved, CONFLICT, seed=23),
    Case("5 % of the labels wrong", "fashion_mnist", 30_000, 3000, noise_5, ("label_noise",), seed=24),
    Case("25 % of the labels wrong, 1,500 pictures", "mnist", 1500, 500, noise_25, ("label_noise",), seed=25),
    Case("60 % of the labels wrong", "mnist", 8000, 1000, noise_60, ("label_noise",), seed=26),
    Case("35 % of class 7 labelled 1", "fashion_mnist", 6000, 1000, pair_35, ("pair_noise",), seed=27),
    Case("30 % of class 0 labelled 9 in the test set", "mnist", 10_000, 4000, pair_in_test, ("pair_noise",), seed=28),
    Case("25 % of one of two classes", "fashion_mnist", 3000, 600, binary_one_sided, ("pair_noise",), (5, 8), seed=29),
    Case("test labels shuffled", "fashion_mnist", 4000, 1000, test_shuffled, ("unrelated_labels",), seed=30),
    Case("mark at the top, everywhere", "fashion_mnist", 4000, 1000, mark_inside, ("shortcut",), seed=31),
    Case("stripe in 80 %, training only", "mnist", 8000, 1500, stripe, ("shortcut",), seed=32),
    Case("white dot in one of two classes", "mnist", 3000, 600, dot_in_one_class, ("shortcut",), (2, 5), seed=33),
    Case("class 6 twelve times rarer", "mnist", 9000, 1000, rare_class, ("class_imbalance",), seed=34),
    Case("two classes rarer in the test set", "fashion_mnist", 6000, 3000, rare_in_test, ("class_shift",), seed=35),
    Case("two classes missing in the test set", "mnist", 4000, 800, missing_two, ("missing_class",), seed=36),
    Case("5 % of the test set white", "fashion_mnist", 4000, 1000, blank_white, ("blank_pictures",), seed=37),
    Case("test set inverted, 20 × 20", "fashion_mnist", 4000, 800, inverted, ("shift_inverted",), size=20, seed=38),
    Case("test set brighter, × 1.4", "mnist", 6000, 1000, brighter, ("shift_brightness", "shift_contrast"), seed=39),
    Case("test set brighter by 30", "fashion_mnist", 3000, 500, lifted, ("shift_brightness",), seed=40),
    Case("test set moved", "mnist", 4000, 700, moved, ("shift_moved",), seed=41),
    Case("test set rotated by −25°", "fashion_mnist", 4000, 700, rotated, ("shift_rotated",), seed=42),
    Case("test set upside down", "mnist", 4000, 700, upside_down, ("shift_flipped",), seed=43),
    Case("40 % of the test set on their side", "fashion_mnist", 6000, 2000, some_rotated, ("shift_rotated",), seed=44),
    Case("test set blurred, sd 0.8", "mnist", 3000, 600, blurred, ("shift_blurred",), (0, 2, 4, 6, 8), seed=45),
    Case("test set noisy, sd 25", "fashion_mnist", 3000, 600, noisy, ("shift_noisy",), seed=46),
    Case("test labels in reverse order", "mnist", 4000, 800, reversed_names, ("renamed_classes",), seed=47),
    Case("columns of zeros in training", "mnist", 4000, 800, columns_zeroed, ("dead_region",), seed=48),
    Case("lower third stuck at 200", "fashion_mnist", 4000, 800, stuck, ("dead_region",), seed=49),
    Case("eight gray levels", "mnist", 4000, 800, eight_levels, ("few_gray_levels",), seed=50),
    Case("saturated, × 4", "fashion_mnist", 4000, 800, saturated, ("clipped",), seed=51),
    Case("healthy, all pictures", "mnist", 60_000, 10_000, seed=60),
    Case("healthy, all pictures", "fashion_mnist", 60_000, 10_000, seed=61),
    Case("healthy", "mnist", 3000, 800, seed=62),
    Case("healthy", "fashion_mnist", 8000, 1000, seed=63),
    Case("healthy, 20 × 20", "fashion_mnist", 5000, 1000, size=20, seed=64),
    Case("healthy, two classes", "fashion_mnist", 2000, 500, classes=(5, 9), seed=65),
    Case("healthy, two classes", "mnist", 10_000, 1500, classes=(1, 7), seed=66),
    Case("healthy, four classes", "mnist", 2500, 600, classes=(3, 5, 8, 9), seed=67),
    Case("healthy, 56 × 56", "mnist", 1500, 400, size=56, seed=68),
]
# fmt: on
