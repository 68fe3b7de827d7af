"""What can have happened to pictures, by name and strength."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from project.data.augmentation import rotate


@dataclass(frozen=True)
class Transformation:
    """A change of pictures, float (n, height, width) in 0–255 to the same.

    Attributes:
        kind: What is reported: inverted, brightness, contrast, moved, rotated, flipped, blurred, noisy, erased.
        words: What it does, with its strength.
        apply: The change; its result is clipped and rounded as a file would hold it.
    """

    kind: str
    words: str
    apply: Callable[[Tensor], Tensor]

    def __call__(self, images: Tensor) -> Tensor:
        return self.apply(images).clamp(0, 255).round()


def moved(images: Tensor, down: int, right: int) -> Tensor:
    """Shift the pictures and fill with their corners' usual value."""
    height, width = images.shape[1:]
    fill = images[:, 0, 0].median()
    padded = functional.pad(images, (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0)), value=float(fill))
    return padded[:, max(-down, 0) : max(-down, 0) + height, max(-right, 0) : max(-right, 0) + width]


def blurred(images: Tensor, sd: float) -> Tensor:
    """Smooth by a normal distribution of this sd in pixels."""
    reach = math.ceil(3 * sd)
    kernel = torch.exp(-torch.arange(-reach, reach + 1.0).square() / (2 * sd * sd))
    kernel /= kernel.sum()
    padded = functional.pad(images.unsqueeze(1), [reach] * 4, mode="replicate")
    along = functional.conv2d(padded, kernel.view(1, 1, -1, 1))
    return functional.conv2d(along, kernel.view(1, 1, 1, -1)).squeeze(1)


def noisy(images: Tensor, sd: float) -> Tensor:
    """Add noise of this sd in gray levels, always the same."""
    return images + torch.randn(images.shape, generator=torch.Generator().manual_seed(2)) * sd


def speckled(images: Tensor, share: float) -> Tensor:
    """Set this share of the pixels to black or white at random, always the same."""
    draws = torch.rand(images.shape, generator=torch.Generator().manual_seed(3))
    return torch.where(draws < share / 2, 0.0, torch.where(draws > 1 - share / 2, 255.0, images))


def turned(images: Tensor, degrees: float) -> Tensor:
    """Rotate to the left, filled with the corners' usual value."""
    fill = images[:, 0, 0].median()
    return rotate(images - fill, torch.full((len(images),), float(degrees))) + fill


def scaled(images: Tensor, gain: float, around: float) -> Tensor:
    """Multiply the distance of each gray level from one that stays."""
    return around + (images - around) * gain


def bent(images: Tensor, power: float) -> Tensor:
    """Raise the gray levels, as shares of 255, to a power."""
    return 255 * (images / 255) ** power


def erased(images: Tensor, mask: Tensor, value: Tensor) -> Tensor:
    """Give the pixels of the mask the value that they have in `value`, both (height, width)."""
    return torch.where(mask, value, images)


def possible_transformations(height: int, width: int) -> list[Transformation]:
    """All that are tried; strengths between two of them are found as a part of the stronger."""
    found = [
        Transformation("inverted", "inverted (255 − value)", lambda x: 255 - x),
        Transformation("flipped", "flipped left to right", lambda x: x.flip(2)),
        Transformation("flipped", "flipped upside down", lambda x: x.flip(1)),
        Transformation("rotated", "rotated by 180°", lambda x: x.flip((1, 2))),
    ]
    if height == width:
        found += [
            Transformation("rotated", "rotated by 90° to the left", lambda x: x.rot90(1, (1, 2))),
            Transformation("rotated", "rotated by 90° to the right", lambda x: x.rot90(-1, (1, 2))),
            Transformation("flipped", "transposed: rows and columns exchanged", lambda x: x.transpose(1, 2)),
        ]
    for angle in (-60, -45, -30, -20, -10, 10, 20, 30, 45, 60):
        turn = "left" if angle > 0 else "right"
        words = f"rotated by about {abs(angle)}° to the {turn}"
        found.append(Transformation("rotated", words, partial(turned, degrees=angle)))
    for gain in (0.25, 0.5, 0.7, 0.85, 1.2, 1.5, 2.0, 3.0):
        words = f"{'darker' if gain < 1 else 'brighter'}, about × {gain:g}"
        found.append(Transformation("brightness", words, partial(scaled, gain=gain, around=0.0)))
    for offset in (-100, -50, -20, 20, 50, 100):
        words = f"{'darker' if offset < 0 else 'brighter'} by about {abs(offset)} gray levels"
        found.append(Transformation("brightness", words, partial(torch.add, other=offset)))
    for gain in (0.3, 0.6, 0.8, 1.5, 2.5):
        words = f"{'lower' if gain < 1 else 'higher'} in contrast, about × {gain:g} around middle gray"
        found.append(Transformation("contrast", words, partial(scaled, gain=gain, around=127.5)))
    for power in (0.4, 0.7, 1.5, 2.5):
        words = f"{'brighter' if power < 1 else 'darker'} in the middle grays (gamma {power:g})"
        found.append(Transformation("brightness", words, partial(bent, power=power)))
    unit = max(1, min(height, width) // 14)
    for steps in (1, 2, 4):
        for down, right in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)):
            dy, dx = down * steps * unit, right * steps * unit
            words = "moved by about " + " and ".join(
                f"{abs(d)} pixels {word}"
                for d, word in ((dy, "down" if dy > 0 else "up"), (dx, "right" if dx > 0 else "left"))
                if d
            )
            found.append(Transformation("moved", words, partial(moved, down=dy, right=dx)))
    for sd in (0.5, 1.0, 2.0):
        words = f"blurred (sd of about {sd:g} pixels)"
        found.append(Transformation("blurred", words, partial(blurred, sd=sd)))
    for sd in (8.0, 20.0, 45.0, 90.0):
        words = f"noisy (sd of about {sd:g} gray levels)"
        found.append(Transformation("noisy", words, partial(noisy, sd=sd)))
    for share in (0.05, 0.2):
        words = f"noisy (about {share:.0%} of the pixels black or white)"
        found.append(Transformation("noisy", words, partial(speckled, share=share)))
    return found
