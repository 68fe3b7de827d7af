"""A short description of a picture that a shift, a little noise, brightness or compression hardly changes."""

import torch
from torch import Tensor
from torch.nn import functional

from project.diagnosis.data_examination.features.pictures import chunks, spread_indices

SIDE = 14
DIMENSIONS = 32
IGNORED_CONTRAST = 25.0
"""Gray levels around the background that do not count when a picture is centred, so that noise does not move it."""


def centred(images: Tensor) -> Tensor:
    """Pictures rolled until the centre of what stands out from their background is in the middle.

    Args:
        images: Float in 0–255, (n, height, width). The background is the median of a picture's edge.
    """
    height, width = images.shape[1:]
    edge = torch.cat([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], dim=1)
    mass = (images - edge.median(dim=1).values.view(-1, 1, 1)).abs_().sub_(IGNORED_CONTRAST).clamp_(min=0)
    total = mass.sum((1, 2)).clamp(min=1e-6)
    down = height // 2 - (mass.sum(2) @ torch.arange(float(height)) / total).round()
    right = width // 2 - (mass.sum(1) @ torch.arange(float(width)) / total).round()
    shifts, which = torch.unique(torch.stack([down, right], 1).long(), dim=0, return_inverse=True)
    moved = torch.empty_like(images)
    for number, (dy, dx) in enumerate(shifts.tolist()):
        chosen = (which == number).nonzero().flatten()
        moved[chosen] = images[chosen].roll((dy, dx), (1, 2))
    return moved


def described(images: Tensor) -> Tensor:
    """Unit vectors of the centred, averaged-down pictures without mean and contrast, on their main directions.

    Args:
        images: uint8 (n, height, width).

    Returns:
        (n, dimensions); two pictures that differ by a shift, an offset or a gain have distance 0.
    """
    factor = max(1, -(-max(images.shape[1:]) // SIDE))
    parts = []
    for part in chunks(images):
        x = functional.avg_pool2d(centred(part.float()).unsqueeze(1), factor).flatten(1)
        x -= x.mean(1, keepdim=True)
        parts.append(x / x.norm(dim=1, keepdim=True).clamp(min=1e-6))
    vectors = torch.cat(parts)
    mean = vectors.mean(0)
    sample = vectors[spread_indices(len(vectors), 10_000)] - mean
    directions = torch.linalg.eigh(sample.T @ sample)[1][:, -DIMENSIONS:].flip(1)
    found: Tensor = (vectors - mean) @ directions
    return found


def usual_distances(vectors: Tensor) -> Tensor:
    """How far each picture is from its third neighbour in a random sample that hardly holds a copy of it, (n,).

    The picture itself, or one copy of it, may be in the sample: the third neighbour is neither.
    """
    sample = vectors[spread_indices(len(vectors), min(max(len(vectors) // 32, 64), 2048))]
    squares = sample.square().sum(1)
    parts = []
    for part in torch.split(vectors, 4096):
        squared = torch.addmm(squares, part, sample.T, alpha=-2) + part.square().sum(1, keepdim=True)
        parts.append(squared.topk(min(3, len(sample)), dim=1, largest=False).values[:, -1])
    return torch.cat(parts).clamp(min=0).sqrt()
