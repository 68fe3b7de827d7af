"""Pictures fitted to what a network takes: their polarity, their size, and of handwriting the ink.

    from project.data.sources.picture_files import read_image
    from project.serving.predict.image_files import fit_image
    image, inverted = fit_image(read_image(Path("seven.png")), 28, 28)  # uint8 (28, 28)

MNIST and FashionMNIST are light on dark; most pictures that people draw or scan are dark on light.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from project.data.channels import gray
from project.data.sources.picture_files import background_level, scaled_to_fit
from project.serving.predict import Polarity, Preparation
from project.serving.predict.ink import prepare_ink


def is_dark_on_light(images: Tensor) -> Tensor:
    """Whether each picture's background is nearer to its lightest than to its darkest level, bool (n,).

    Args:
        images: (n, height, width), or in colour (n, height, width, 3).
    """
    images = gray(images)
    darkest, lightest = images.flatten(1).aminmax(dim=1)
    return background_level(images) > (darkest.float() + lightest.float()) / 2


def is_prepared(image: Tensor, shape: Sequence[int], preparation: Preparation) -> bool:
    """Whether a picture's ink is prepared for a network.

    Args:
        image: The picture, (height, width), or in colour, which has no ink to prepare.
        shape: The shape of the network's pictures.
        preparation: What is asked for; auto prepares what does not have the network's size.
    """
    return image.ndim == 2 and (preparation == "always" or (preparation == "auto" and image.shape != tuple(shape)))


def fit_image(
    image: Tensor, height: int, width: int, polarity: Polarity = "auto", prepare: bool = False
) -> tuple[Tensor, bool]:
    """Turn a picture into what a network takes.

    The picture is scaled to fit, with its aspect kept, and the rest is filled with its background. A picture that has
    the size already, and is not inverted or prepared, stays the same to the bit.

    Args:
        image: The levels, uint8 (height, width) or in colour (height, width, 3), of any size.
        height: The height of the network's input.
        width: The width of the network's input.
        polarity: auto inverts a picture that is dark on light, judged by its corners; as_is inverts none; invert all.
        prepare: Whether to do as was done to MNIST's digits (see `prepare_ink`), which suits ink on paper and decides
            the polarity auto by itself. A blank picture is only scaled; a picture in colour has no ink to prepare.

    Returns:
        uint8 (`height`, `width`) or (`height`, `width`, 3), and whether it was inverted.
    """
    right = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if image.dtype != torch.uint8 or not right or not image.numel():
        raise ValueError(f"expected uint8 (height, width[, 3]), got {image.dtype} {tuple(image.shape)}")
    if prepare and image.ndim != 2:
        raise ValueError("a picture in colour has no ink to prepare")
    if prepare and (prepared := prepare_ink(image, height, width, polarity)):
        return prepared
    inverted = polarity == "invert" or (polarity == "auto" and bool(is_dark_on_light(image[None])))
    if inverted:
        image = 255 - image
    return scaled_to_fit(image, height, width), inverted
