"""Pictures of one channel, (n, height, width), and of several, (n, height, width, channels): one seen as the other."""

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
"""The shares of red, green and blue in a gray level (ITU-R 601)."""


def gray(images: Tensor) -> Tensor:
    """One level for each pixel: the luma of three channels, the mean of any other number.

    Args:
        images: uint8 or float, (n, height, width) or (n, height, width, channels).

    Returns:
        (n, height, width) of the same type; pictures of one channel come back as they are.
    """
    if images.dim() == 3:
        return images
    shares = torch.tensor(LUMA) if images.shape[3] == 3 else torch.full((images.shape[3],), 1 / images.shape[3])
    whole = not images.is_floating_point()
    # a chunk at a time, because floats are four times as large as bytes
    parts = [part.float() @ shares.to(part.device) for part in torch.split(images, 4096)]
    levels = torch.cat(parts) if parts else images[..., 0].float()
    return levels.round_().clamp_(0, 255).to(images.dtype) if whole else levels.to(images.dtype)


def drawable(images: Tensor) -> Tensor:
    """Pictures that a figure or a file can show: three channels stay colours, any other number becomes gray.

    Args:
        images: uint8 or float, (n, height, width) or (n, height, width, channels).

    Returns:
        (n, height, width) or (n, height, width, 3).
    """
    return images if images.dim() == 4 and images.shape[3] == 3 else gray(images)
