"""Pictures fitted to what a network takes: their polarity, their ink, their size.

    from project.data.sources.picture_files import read_image
    from project.serving.predict.image_files import fit_image
    image, inverted = fit_image(read_image(Path("seven.png")), 28, 28)  # uint8 (28, 28)

MNIST and FashionMNIST are light on dark; most pictures that people draw or scan are dark on light.
"""

import torch
from torch import Tensor

from project.data.channels import gray
from project.data.sources.picture_files import background_level, scale_into, scaled_to_fit
from project.serving.predict import Polarity

BOX_FRACTION = 20 / 28
"""The side of the box for the ink as a share of the network's input (LeCun et al. 1998, section III.A)."""
INK_FRACTION = 0.1
"""A pixel is ink if it differs from the background by more than this share of the strongest ink's difference."""
MIN_CONTRAST = 8
"""With fewer gray levels between background and strongest ink, a picture counts as blank."""


def is_dark_on_light(images: Tensor) -> Tensor:
    """Whether each picture's background is nearer to its lightest than to its darkest level, bool (n,).

    Args:
        images: (n, height, width), or in colour (n, height, width, 3).
    """
    images = gray(images)
    darkest, lightest = images.flatten(1).aminmax(dim=1)
    return background_level(images) > (darkest.float() + lightest.float()) / 2


def fit_image(
    image: Tensor, height: int, width: int, polarity: Polarity = "auto", center: bool = False
) -> tuple[Tensor, bool]:
    """Turn a picture into what a network takes.

    The picture is scaled to fit, with its aspect kept, and the rest is filled with its background. A picture that has
    the size already, and is not inverted or centered, stays the same to the bit.

    Args:
        image: The levels, uint8 (height, width) or in colour (height, width, 3), of any size.
        height: The height of the network's input.
        width: The width of the network's input.
        polarity: auto inverts a picture that is dark on light, judged by its corners; as_is inverts none; invert all.
        center: Whether to do as was done to MNIST's digits: background and contrast are removed, the ink is scaled into
            a box of 20/28 of the input, and its centre of mass is put in the middle (LeCun et al. 1998, section III.A).
            After `polarity` the ink must be light on a dark background; a blank picture is only scaled. A picture in
            colour has no ink to centre.

    Returns:
        uint8 (`height`, `width`) or (`height`, `width`, 3), and whether it was inverted.
    """
    right = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if image.dtype != torch.uint8 or not right or not image.numel():
        raise ValueError(f"expected uint8 (height, width[, 3]), got {image.dtype} {tuple(image.shape)}")
    if center and image.ndim != 2:
        raise ValueError("a picture in colour has no ink to centre")
    inverted = polarity == "invert" or (polarity == "auto" and bool(is_dark_on_light(image[None])))
    if inverted:
        image = 255 - image
    if center:
        image = _center(image, height, width)
    return scaled_to_fit(image, height, width), inverted


def _center(image: Tensor, height: int, width: int) -> Tensor:
    """Light ink on a dark background, placed as MNIST's digits are; a blank picture stays as it is."""
    ink = (image.float() - background_level(image[None])).clamp_(min=0)
    strongest = ink.max().item()
    if strongest < MIN_CONTRAST:
        return image
    is_ink = ink > INK_FRACTION * strongest
    rows, columns = is_ink.any(1).nonzero()[:, 0], is_ink.any(0).nonzero()[:, 0]
    cut = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].contiguous()
    box = scale_into(cut, max(round(height * BOX_FRACTION), 1), max(round(width * BOX_FRACTION), 1)).clamp_(min=0)
    box = box * (255 / box.max())
    placed = torch.zeros(height, width)
    starts = []
    for size, weights in zip((height, width), (box.sum(1), box.sum(0)), strict=True):
        mass_center = (weights * torch.arange(len(weights))).sum() / weights.sum()
        # pixel 14 of 28, where it is in MNIST's files on average; never so far that ink is cut off
        starts.append(min(max(round(size / 2 - mass_center.item()), 0), size - len(weights)))
    placed[starts[0] : starts[0] + box.shape[0], starts[1] : starts[1] + box.shape[1]] = box
    return placed.round_().to(torch.uint8)
