"""Picture files read as gray levels, and fitted to what a network takes.

    from project.serving.predict.image_files import fit_image, read_image
    image, inverted = fit_image(read_image(Path("seven.png")), 28, 28)  # uint8 (28, 28)

MNIST and FashionMNIST are light on dark; most pictures that people draw or scan are dark on light.
"""

import math
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from project.errors import InputError
from project.serving.predict import Polarity

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "PPM", "TIFF", "WEBP", "JPEG2000")
"""Pillow's names of the formats that are read. Pillow knows more, but starts other programs for some."""
SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".pbm", ".pgm", ".ppm", ".tif", ".tiff", ".webp", ".jp2")
)
"""Endings of those formats' files, lower case."""
MAX_PIXELS = 80_000_000
"""A picture with more pixels is refused before any pixel is unpacked."""
ENLARGEMENTS = tuple(Image.Resampling[kind] for kind in ("NEAREST", "BILINEAR", "BICUBIC", "LANCZOS"))
"""Ways in which programs enlarge pictures."""
MAX_SAMPLES = 16
"""If more pixels of a picture, along an axis, become one of the network's, blocks of them are averaged first."""
CORNER_FRACTION = 1 / 14
"""A corner patch's side as a share of the picture's shorter side: 2 of 28 pixels."""
BOX_FRACTION = 20 / 28
"""The side of the box for the ink as a share of the network's input (LeCun et al. 1998, section III.A)."""
INK_FRACTION = 0.1
"""A pixel is ink if it differs from the background by more than this share of the strongest ink's difference."""
MIN_CONTRAST = 8
"""With fewer gray levels between background and strongest ink, a picture counts as blank."""
TOO_LARGE = (f"has more than the {MAX_PIXELS:,} pixels that are read", "make it smaller: a network uses few pixels")
REFUSALS: dict[type[Exception], tuple[str, str]] = {
    UnidentifiedImageError: ("is not a picture in a format that is read", f"give one of {', '.join(FORMATS)}"),
    Image.DecompressionBombError: TOO_LARGE,
    Image.DecompressionBombWarning: TOO_LARGE,
    FileNotFoundError: ("does not exist", "check the name"),
    PermissionError: ("may not be read", "change its permissions"),
    IsADirectoryError: ("is a folder", "give a picture file"),
}
"""Cause and remedy of an error that opening a file raises."""


def read_image(source: str | Path | BinaryIO) -> Tensor:
    """Read a picture's gray levels, uint8 (height, width).

    Colour becomes luma (ITU-R 601), 16 bits become 8, the picture is turned as the camera's rotation mark (EXIF) says,
    and the first of several frames or pages is taken. A transparent picture is laid over white if its visible part is
    dark, over black if it is light. The noise that JPEG's rounding leaves on black and white is removed.

    Args:
        source: The file, or an open binary file.

    Raises:
        InputError: If it is missing, not a picture in one of `FORMATS`, damaged, cut short or larger than `MAX_PIXELS`.
    """
    name = str(source) if isinstance(source, (str, Path)) else "the picture"
    try:
        with Image.open(source, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            image.load()
            if image.info:  # otherwise there is no mark, and the search for one takes as long as decoding a digit
                ImageOps.exif_transpose(image, in_place=True)
            return _without_noise(_gray(image), getattr(image, "quantization", {}))
    except Exception as error:  # decoders raise errors of any class on a damaged file
        lines = str(error).strip().splitlines() or [type(error).__name__]
        otherwise = (f"cannot be read: {lines[0][:200]}", "save it again as an 8-bit PNG or JPEG")
        cause, remedy = next((row for kind, row in REFUSALS.items() if isinstance(error, kind)), otherwise)
        raise InputError(f"{name} {cause}", remedy) from None


def _gray(image: Image.Image) -> Tensor:
    """Luma of a loaded picture, uint8 (height, width)."""
    if image.mode.startswith("I"):  # 16 bits, which older releases of Pillow give as 32
        levels = np.asarray(image).astype(np.int64)
        if levels.min() < 0 or levels.max() > 0xFFFF:
            raise ValueError(f"its gray levels go from {levels.min()} to {levels.max()}, but 0 to 65,535 are expected")
        return torch.from_numpy((levels * 0xFF + 0x7FFF) // 0xFFFF).to(torch.uint8)
    if image.mode == "F":
        raise ValueError("its gray levels are floats, and the file does not say of which range")
    if image.has_transparency_data:
        gray, alpha = torch.from_numpy(np.array(image.convert("RGBA").convert("LA"), np.float32)).unbind(2)
        opacity = alpha / 255
        visible = opacity.sum()
        background = 255.0 if visible and (gray * opacity).sum() / visible < 127.5 else 0.0
        return torch.lerp(torch.tensor(background), gray, opacity).round_().to(torch.uint8)
    if image.mode != "L":
        image = image.convert("L")
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(image.height, image.width)


def _without_noise(gray: Tensor, quantization: dict[int, list[int]]) -> Tensor:
    """Set levels to black or white if they are no further from it than JPEG's rounding errors usually are.

    Args:
        gray: uint8 (height, width), changed in place.
        quantization: JPEG's tables, with a step for each of 64 coefficients; table 0 is luma's. Files of other formats
            have none. An error is evenly distributed over its step, and the transform is orthonormal, so a pixel's
            error has a standard deviation of √(mean of step² / 12).
    """
    if 0 in quantization:
        error = math.sqrt(sum(step**2 for step in quantization[0]) / len(quantization[0]) / 12)
        gray[gray < error] = 0
        gray[gray > 255 - error] = 255
    return gray


def background_level(images: Tensor) -> Tensor:
    """Gray level of each picture's background, the mean of the middle two of its four corners, float32 (n,).

    Args:
        images: (n, height, width).
    """
    height, width = images.shape[1:]
    side = max(round(min(height, width) * CORNER_FRACTION), 1)
    ends = (slice(None, side), slice(-side, None))
    corners = [images[:, rows, columns].float().mean((1, 2)) for rows in ends for columns in ends]
    return torch.stack(corners).sort(0).values[1:3].mean(0)


def is_dark_on_light(images: Tensor) -> Tensor:
    """Whether each picture's background is nearer to its lightest than to its darkest level, bool (n,).

    Args:
        images: (n, height, width).
    """
    darkest, lightest = images.flatten(1).aminmax(dim=1)
    return background_level(images) > (darkest.float() + lightest.float()) / 2


def fit_image(
    image: Tensor, height: int, width: int, polarity: Polarity = "auto", center: bool = False
) -> tuple[Tensor, bool]:
    """Turn a picture into what a network takes.

    The picture is scaled to fit, with its aspect kept, and the rest is filled with its background. A picture that has
    the size already, and is not inverted or centered, stays the same to the bit.

    Args:
        image: The gray levels, uint8 (height, width), of any size.
        height: The height of the network's input.
        width: The width of the network's input.
        polarity: auto inverts a picture that is dark on light, judged by its corners; as_is inverts none; invert all.
        center: Whether to do as was done to MNIST's digits: background and contrast are removed, the ink is scaled into
            a box of 20/28 of the input, and its centre of mass is put in the middle (LeCun et al. 1998, section III.A).
            After `polarity` the ink must be light on a dark background; a blank picture is only scaled.

    Returns:
        uint8 (`height`, `width`), and whether it was inverted.
    """
    if image.dtype != torch.uint8 or image.ndim != 2 or not image.numel():
        raise ValueError(f"expected uint8 (height, width), got {image.dtype} {tuple(image.shape)}")
    inverted = polarity == "invert" or (polarity == "auto" and bool(is_dark_on_light(image[None])))
    if inverted:
        image = 255 - image
    if center:
        image = _center(image, height, width)
    if image.shape != (height, width):
        scaled = _scale_into(image, height, width)
        fitted = torch.full((height, width), round(background_level(image[None]).item()), dtype=torch.uint8)
        top, left = (height - scaled.shape[0]) // 2, (width - scaled.shape[1]) // 2
        fitted[top : top + scaled.shape[0], left : left + scaled.shape[1]] = scaled
        image = fitted
    return image, inverted


def _scale_into(image: Tensor, height: int, width: int) -> Tensor:
    """The picture, uint8 or float32, as large as fits into the box, its aspect kept.

    A larger picture becomes the small one whose enlargement is closest to it, in the sense of least squares (Unser,
    Aldroubi & Eden 1995, IEEE Transactions on Image Processing 4(3)), by the kind of enlargement that gets closest.
    Unlike a filter that blurs first, this undoes the enlargement of a small picture, and so gives the network what it
    was trained on: with the usual filters, it decides differently on 1 to 4 % of FashionMNIST enlarged to 280 × 280.
    """
    factor = min(height / image.shape[0], width / image.shape[1])
    rows, columns = (max(round(size * factor), 1) for size in image.shape)
    if (rows, columns) == tuple(image.shape):
        return image
    picture = Image.fromarray(image.numpy())
    if factor > 1:
        return torch.from_numpy(np.array(picture.resize((columns, rows), Image.Resampling.BILINEAR)))
    blocks = (max(picture.width // (MAX_SAMPLES * columns), 1), max(picture.height // (MAX_SAMPLES * rows), 1))
    if max(blocks) > 1:
        picture = picture.reduce(blocks)
    levels = torch.from_numpy(np.array(picture, np.float32))
    best, least = levels, math.inf
    for kind in ENLARGEMENTS:
        tall, shrink_rows = _enlarging(levels.shape[0], rows, kind)
        wide, shrink_columns = _enlarging(levels.shape[1], columns, kind)
        scaled = shrink_rows @ levels @ shrink_columns.T
        distance = (tall @ scaled @ wide.T - levels).square().sum().item()
        if distance < least:
            best, least = scaled, distance
    return best if image.is_floating_point() else best.round_().clamp_(0, 255).to(torch.uint8)


@lru_cache(maxsize=64)
def _enlarging(large: int, small: int, kind: Image.Resampling) -> tuple[Tensor, Tensor]:
    """The matrix that enlarges `small` levels, float32 (large, small), and its pseudo-inverse (small, large)."""
    each = Image.fromarray(np.eye(small, dtype=np.float32))
    matrix = np.array(each.resize((small, large), kind), np.float64)
    return torch.from_numpy(matrix).float(), torch.from_numpy(np.linalg.pinv(matrix)).float()


def _center(image: Tensor, height: int, width: int) -> Tensor:
    """Light ink on a dark background, placed as MNIST's digits are; a blank picture stays as it is."""
    ink = (image.float() - background_level(image[None])).clamp_(min=0)
    strongest = ink.max().item()
    if strongest < MIN_CONTRAST:
        return image
    is_ink = ink > INK_FRACTION * strongest
    rows, columns = is_ink.any(1).nonzero()[:, 0], is_ink.any(0).nonzero()[:, 0]
    cut = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].contiguous()
    box = _scale_into(cut, max(round(height * BOX_FRACTION), 1), max(round(width * BOX_FRACTION), 1)).clamp_(min=0)
    box = box * (255 / box.max())
    placed = torch.zeros(height, width)
    starts = []
    for size, weights in zip((height, width), (box.sum(1), box.sum(0)), strict=True):
        mass_center = (weights * torch.arange(len(weights))).sum() / weights.sum()
        # pixel 14 of 28, where it is in MNIST's files on average; never so far that ink is cut off
        starts.append(min(max(round(size / 2 - mass_center.item()), 0), size - len(weights)))
    placed[starts[0] : starts[0] + box.shape[0], starts[1] : starts[1] + box.shape[1]] = box
    return placed.round_().to(torch.uint8)
