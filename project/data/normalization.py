"""Normalization of gray levels, fitted on the training split alone (N4)."""

import math

import torch
from torch import Tensor, nn

from project.data.settings import NormalizationName
from project.errors import InputError

FIT_CHUNK = 512
"""How many images are summed at once, which limits the memory used."""


class Normalization(nn.Module):
    """(x − shift) · scale for gray levels x in 0–255, flattened: (batch, …) to float (batch, features).

    Args:
        shift: What is subtracted, a scalar or (features,).
        scale: What the difference is multiplied by, a scalar or (features,).
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, shift: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        # a batch of another type is copied by its conversion, so that the rest may work in place
        same = flat.dtype == self.scale.dtype
        shifted = flat - self.shift if same else flat.to(self.scale.dtype).sub_(self.shift)
        return shifted.mul_(self.scale)


def fit_normalization(mode: NormalizationName, images: Tensor, indices: Tensor) -> Normalization:
    """Fit a normalization on some of the images, which must be the training split alone.

    Args:
        mode: none keeps 0–255; unit maps to [0, 1]; symmetric to [−1, 1]; standardize to mean 0 and sd 1 over all
            pixels and channels; feature_standardize to mean 0 and sd 1 for each of them, with constant ones mapped to
            0.
        images: All images, uint8 (n, height, width) or (n, height, width, channels).
        indices: The training split, int64 (m,).

    Raises:
        InputError: If the sd is 0, because no pixel differs between the pictures (standardize: from any other pixel).
    """
    fixed = {"none": (0.0, 1.0), "unit": (0.0, 1 / 255), "symmetric": (127.5, 1 / 127.5)}
    if mode in fixed:
        shift, factor = fixed[mode]
        return Normalization(torch.tensor(shift), torch.tensor(factor))
    features = math.prod(images.shape[1:])
    total = torch.zeros(features, dtype=torch.float64)
    squares = torch.zeros(features, dtype=torch.float64)
    for chunk in torch.split(indices, FIT_CHUNK):
        pixels = images[chunk].flatten(1).to(torch.float64)  # sums of whole numbers below 2^53 are exact
        total += pixels.sum(0)
        squares += pixels.square_().sum(0)
    num = len(indices)
    if mode == "standardize":
        num, total, squares = num * features, total.sum(), squares.sum()
    mean = total / num
    # exactly 0 for a constant pixel v, because both terms are then v²; for any other pixel far above rounding errors
    sd = (squares / num - mean.square()).clamp(min=0).sqrt()
    if (sd == 0).all():
        same = "have one flat gray" if mode == "standardize" else "are one and the same"
        raise InputError(
            f"all pictures of the training split {same}: nothing can be standardized",
            "check the image files, or type --data.normalization unit",
        )
    scale = torch.where(sd == 0, 0.0, 1 / sd)
    return Normalization(mean.float(), scale.float())
