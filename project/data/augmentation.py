"""Random changes to a batch of training images, made on the device.

Pictures of one channel are (batch, height, width), pictures of more are (batch, height, width, channels). What is drawn
at random is drawn for each picture, and is the same in all of its channels.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Dirichlet
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from project.data.settings import AugmentationName

MAX_SHIFT = 2
"""The largest number of pixels by which `shift` moves a picture, in each direction."""
MAX_ROTATION_DEGREES = 10.0
"""The largest angle by which `affine` turns a picture; it also scales by up to 10 % and moves by up to MAX_SHIFT."""
MIXUP_ALPHA = 0.2
"""The α of mixup's weight (Zhang et al. 2018 use 0.1 to 0.4 on images)."""


class Batch(NamedTuple):
    """One batch on the device.

    Args:
        images: Levels in 0–255, uint8 or float (batch, height, width) or (batch, height, width, channels).
        targets: Class indices int64 (batch,), or real targets float32 (batch,).
        mixed_targets: The other picture's targets where mixup or cutmix mixed two, else None.
        weight: The share of `targets` in the mix, a scalar, or None.
    """

    images: Tensor
    targets: Tensor
    mixed_targets: Tensor | None = None
    weight: Tensor | None = None


def build_augmentation(names: Sequence[AugmentationName]) -> Callable[[Batch], Batch]:
    """Make one function that augments a batch as a whole, drawing from torch's default generator.

    The augmentations follow each other in the order given, but mixup or cutmix comes last and mixes finished pictures.
    """
    on_images = [ON_IMAGES[name] for name in names if name not in MIXES]
    mixes = [MIXES[name] for name in names if name in MIXES]

    def augment(batch: Batch) -> Batch:
        for change in on_images:
            batch = Batch(change(batch.images), batch.targets)
        for mix in mixes:
            batch = mix(batch)
        return batch

    return augment


def shift(images: Tensor) -> Tensor:
    """Move each picture by whole pixels, up to MAX_SHIFT each way; black comes in. (batch, height, width, …)."""
    num, height, width = images.shape[:3]
    of_channels = (0, 0) * (images.dim() - 3)  # F.pad counts dimensions from the last
    padded = F.pad(images, (*of_channels, MAX_SHIFT, MAX_SHIFT, MAX_SHIFT, MAX_SHIFT))
    offsets = torch.randint(0, 2 * MAX_SHIFT + 1, (2, num, 1), device=images.device)
    rows = offsets[0] + torch.arange(height, device=images.device)  # (batch, height)
    columns = offsets[1] + torch.arange(width, device=images.device)  # (batch, width)
    batch = torch.arange(num, device=images.device)
    return padded[batch[:, None, None], rows[:, :, None], columns[:, None, :]]


def affine(images: Tensor) -> Tensor:
    """Turn, scale and move each picture a little, with bilinear interpolation. (batch, height, width, …)."""
    num, height, width = images.shape[:3]
    draw = torch.rand(4, num, device=images.device) * 2 - 1  # (4, batch) in [−1, 1)
    scale = 1 + 0.1 * draw[1]
    move = torch.stack((draw[2] * 2 * MAX_SHIFT / width, draw[3] * 2 * MAX_SHIFT / height))
    return warp(images, MAX_ROTATION_DEGREES * draw[0], scale, move)


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Turn each picture counter-clockwise about its centre by its own angle. (batch, height, width, …), (batch,)."""
    return warp(images, degrees, torch.ones_like(degrees), degrees.new_zeros(2, len(degrees)))


def warp(images: Tensor, degrees: Tensor, scale: Tensor, move: Tensor) -> Tensor:
    """Turn and scale pictures about their centre, then move them, with bilinear interpolation; black comes in.

    Args:
        images: The pictures, uint8 or float (batch, height, width) or (batch, height, width, channels).
        degrees: The counter-clockwise angles, (batch,).
        scale: The magnifications, (batch,).
        move: The translations in units of half a width and half a height, (2, batch).

    Returns:
        float32, in the shape of the pictures.
    """
    num, height, width = images.shape[:3]
    radians = torch.deg2rad(degrees)
    cos, sin = torch.cos(radians) / scale, torch.sin(radians) / scale
    # grid coordinates are in units of half the width and half the height: a picture that is not square needs the ratio
    ratio = height / width
    turn = torch.stack((cos, -sin * ratio, sin / ratio, cos), dim=1).view(num, 2, 2)
    # from where each output pixel is taken: the move is undone first, then the turn
    matrix = torch.cat((turn, -turn @ move.T[:, :, None]), dim=2)  # (batch, 2, 3)
    grid = F.affine_grid(matrix, [num, 1, height, width], align_corners=False)
    if images.dim() == 3:
        return F.grid_sample(images.float().unsqueeze(1), grid, align_corners=False).squeeze(1)
    planes = images.float().movedim(3, 1)  # (batch, channels, height, width)
    return F.grid_sample(planes, grid, align_corners=False).movedim(1, 3)


def erase(images: Tensor) -> Tensor:
    """Blacken a rectangle of 2 to 20 % of each picture's area, sides up to 1:3. (batch, height, width, …)."""
    num, height, width = images.shape[:3]
    draw = torch.rand(4, num, device=images.device)
    area = (0.02 + 0.18 * draw[0]) * height * width
    aspect = torch.exp((2 * draw[1] - 1) * math.log(3.0))
    box_height, box_width = (area * aspect).sqrt().clamp(1, height), (area / aspect).sqrt().clamp(1, width)
    top, left = draw[2] * (height - box_height), draw[3] * (width - box_width)
    inside = _inside_boxes(height, width, top, left, box_height, box_width)
    return images.masked_fill(_for_channels(inside, images), 0)


def _inside_boxes(height: int, width: int, top: Tensor, left: Tensor, box_height: Tensor, box_width: Tensor) -> Tensor:
    """Which pixels' centres lie in each box; all of (batch,), result bool (batch, height, width, …)."""
    y = torch.arange(height, device=top.device) + 0.5
    x = torch.arange(width, device=top.device) + 0.5
    in_rows = (y >= top[:, None]) & (y < (top + box_height)[:, None])
    in_columns = (x >= left[:, None]) & (x < (left + box_width)[:, None])
    return in_rows[:, :, None] & in_columns[:, None, :]


def _for_channels(inside: Tensor, images: Tensor) -> Tensor:
    """A mask of pixels, (batch, height, width), that broadcasts over the pictures' channels where there are some."""
    return inside if images.dim() == 3 else inside.unsqueeze(3)


def mixup(batch: Batch) -> Batch:
    """Blend every picture with another of the batch, one weight for all: λ ~ Beta(α, α), x̃ = λxᵢ + (1−λ)xⱼ."""
    # one draw of Beta(α, α) that does not leave the device: a Dirichlet of two is a Beta, and torch's own Beta builds
    # one from two tensors at three times the cost
    alphas = torch.full((2,), MIXUP_ALPHA, device=batch.images.device)
    weight = Dirichlet(alphas, validate_args=False).sample()[0]
    order = torch.randperm(len(batch.targets), device=batch.images.device)
    images = batch.images.float()
    return Batch(torch.lerp(images[order], images, weight), batch.targets, batch.targets[order], weight)


def cutmix(batch: Batch) -> Batch:
    """Replace one rectangle, the same in all pictures, by another picture's: area 1−λ with λ ~ U(0, 1)."""
    images = batch.images
    height, width = images.shape[1:3]
    draw = torch.rand(3, 1, device=batch.images.device)
    side = (1 - draw[0]).sqrt()
    box_height, box_width = side * height, side * width
    # the box's centre is drawn over the whole picture, so that the border may cut the box off
    top, left = draw[1] * height - box_height / 2, draw[2] * width - box_width / 2
    inside = _inside_boxes(height, width, top, left, box_height, box_width)  # (1, height, width)
    order = torch.randperm(len(batch.targets), device=batch.images.device)
    weight = 1 - inside.float().mean()
    mixed = torch.where(_for_channels(inside, images), images[order], images)
    return Batch(mixed, batch.targets, batch.targets[order], weight)


ON_IMAGES: dict[str, Callable[[Tensor], Tensor]] = {"shift": shift, "affine": affine, "erase": erase}
"""What changes each picture alone: shift, affine, erase (Zhong et al. 2020)."""
MIXES: dict[str, Callable[[Batch], Batch]] = {"mixup": mixup, "cutmix": cutmix}
"""What mixes two pictures and their targets: mixup (Zhang et al. 2018), cutmix (Yun et al. 2019)."""
