"""Ways in which data fall ill, for the case tables of both halves: plain NumPy, nothing of the project.

Every function gets arrays and a generator, and returns changed copies; images are uint8 (n, height, width).
"""

from typing import Any

import numpy as np
from scipy import ndimage

Array = np.ndarray[Any, Any]
Rng = np.random.Generator


def as_bytes(images: Array) -> Array:
    result: Array = np.clip(np.rint(images), 0, 255).astype(np.uint8)
    return result


def noise_labels(labels: Array, share: float, classes: int, rng: Rng) -> Array:
    """Replace this share of the labels by another class, drawn evenly."""
    changed = rng.random(len(labels)) < share
    result: Array = labels.copy()
    result[changed] = (labels[changed] + rng.integers(1, classes, changed.sum())) % classes
    return result


def confuse(labels: Array, one: int, other: int, share: float, rng: Rng) -> Array:
    """Label this share of one class as another."""
    result: Array = labels.copy()
    result[(labels == one) & (rng.random(len(labels)) < share)] = other
    return result


def shifted(images: Array, down: int, right: int) -> Array:
    """Move the pictures, black comes in."""
    return as_bytes(np.stack([ndimage.shift(image, (down, right), order=0) for image in images]))


def rotated(images: Array, degrees: float) -> Array:
    return as_bytes(ndimage.rotate(images.astype(float), degrees, axes=(2, 1), reshape=False, order=1))


def blurred(images: Array, sd: float) -> Array:
    return as_bytes(ndimage.gaussian_filter(images.astype(float), (0, sd, sd)))


def noisy(images: Array, sd: float, rng: Rng) -> Array:
    return as_bytes(images + rng.normal(0, sd, images.shape))


def stamped(images: Array, labels: Array, box: tuple[int, int, int, int], step: int, share: float, rng: Rng) -> Array:
    """Write `step` times the label into a box (top, left, rows, columns) of this share of the pictures."""
    top, left, rows, columns = box
    result: Array = images.copy()
    chosen = rng.random(len(labels)) < share
    values = (labels[chosen] * step % 256).astype(np.uint8)
    result[chosen, top : top + rows, left : left + columns] = values[:, None, None]
    return result


def compressed(images: Array, quality: int) -> Array:
    """Save and read as JPEG."""
    import io

    from PIL import Image

    result = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        result.append(np.asarray(Image.open(file)))
    return np.stack(result)
