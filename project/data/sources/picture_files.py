"""Picture files: decoded to levels, and scaled to a size. The folder source and predictions read them alike.

from project.data.sources.picture_files import read_image, scaled_to_fit
image = scaled_to_fit(read_image(Path("seven.png")), 28, 28)  # uint8 (28, 28)
"""

import math
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from project.data.channels import gray
from project.errors import InputError

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
TOO_LARGE = ("has more than the {:,} pixels that are read", "make it smaller: a network uses few pixels")
REFUSALS: dict[type[Exception], tuple[str, str]] = {
    UnidentifiedImageError: ("is not a picture in a format that is read", f"give one of {', '.join(FORMATS)}"),
    Image.DecompressionBombError: TOO_LARGE,
    Image.DecompressionBombWarning: TOO_LARGE,
    FileNotFoundError: ("does not exist", "check the name"),
    PermissionError: ("may not be read", "change its permissions"),
    IsADirectoryError: ("is a folder", "give a picture file"),
}
"""Cause and remedy of an error that opening a file raises."""


def read_image(source: str | Path | BinaryIO, channels: int = 1, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Read a picture's levels, uint8 (height, width), or (height, width, 3) with red, green and blue.

    For one channel colour becomes luma (ITU-R 601); for three gray becomes three equal channels. 16 bits become 8, the
    picture is turned as the camera's rotation mark (EXIF) says, and the first of several frames or pages is taken. A
    transparent picture is laid over white if its visible part is dark, over black if it is light. The noise that JPEG's
    rounding leaves on black and white is removed from gray.

    Args:
        source: The file, or an open binary file.
        channels: How many channels the network takes.
        max_pixels: A picture with more pixels is refused before any pixel is unpacked.

    Raises:
        InputError: If it is missing, not a picture in one of `FORMATS`, damaged, cut short or larger than `max_pixels`,
            or if no picture file has so many channels.
    """
    if channels not in (1, 3):
        raise InputError(
            f"the network takes pictures of {channels} channels, but a picture file has 1 or 3",
            "give the pictures as an array to load_run(RUN).predict instead",
        )
    name = str(source) if isinstance(source, (str, Path)) else "the picture"
    try:
        with Image.open(source, formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise Image.DecompressionBombError
            image.load()
            if image.info:  # otherwise there is no mark, and the search for one takes as long as decoding a digit
                ImageOps.exif_transpose(image, in_place=True)
            if channels == 3 and not is_gray(image):
                return _colours(image)
            levels = _without_noise(_gray(image), getattr(image, "quantization", {}))
            return levels if channels == 1 else levels.unsqueeze(2).repeat(1, 1, 3)
    except Exception as error:  # decoders raise errors of any class on a damaged file
        lines = str(error).strip().splitlines() or [type(error).__name__]
        otherwise = (f"cannot be read: {lines[0][:200]}", "save it again as an 8-bit PNG or JPEG")
        cause, remedy = next((row for kind, row in REFUSALS.items() if isinstance(error, kind)), otherwise)
        if (cause, remedy) == TOO_LARGE:
            cause = cause.format(max_pixels)
        raise InputError(f"{name} {cause}", remedy) from None


def is_gray(image: Image.Image) -> bool:
    """Whether a file says that its picture is gray; a palette may hold any colours."""
    return image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I")


def _colours(image: Image.Image) -> Tensor:
    """Red, green and blue of a loaded picture, uint8 (height, width, 3)."""
    if image.has_transparency_data:
        *colours, alpha = torch.from_numpy(np.array(image.convert("RGBA"), np.float32)).unbind(2)
        levels, opacity = torch.stack(colours, 2), alpha.unsqueeze(2) / 255
        background = _background_behind(gray(levels[None])[0], opacity[..., 0])
        return torch.lerp(torch.tensor(background), levels, opacity).round_().to(torch.uint8)
    return torch.from_numpy(np.array(image.convert("RGB")))


def _background_behind(levels: Tensor, opacity: Tensor) -> float:
    """White behind a picture whose visible part is dark, black behind a light one; both (height, width)."""
    visible = opacity.sum()
    return 255.0 if visible and (levels * opacity).sum() / visible < 127.5 else 0.0


def _gray(image: Image.Image) -> Tensor:
    """Luma of a loaded picture, uint8 (height, width)."""
    if image.mode.startswith("I"):  # 16 bits, which older releases of Pillow give as 32
        wide = np.asarray(image).astype(np.int64)
        if wide.min() < 0 or wide.max() > 0xFFFF:
            raise ValueError(f"its gray levels go from {wide.min()} to {wide.max()}, but 0 to 65,535 are expected")
        return torch.from_numpy((wide * 0xFF + 0x7FFF) // 0xFFFF).to(torch.uint8)
    if image.mode == "F":
        raise ValueError("its gray levels are floats, and the file does not say of which range")
    if image.has_transparency_data:
        levels, alpha = torch.from_numpy(np.array(image.convert("RGBA").convert("LA"), np.float32)).unbind(2)
        opacity = alpha / 255
        background = _background_behind(levels, opacity)
        return torch.lerp(torch.tensor(background), levels, opacity).round_().to(torch.uint8)
    if image.mode != "L":
        image = image.convert("L")
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(image.height, image.width)


def _without_noise(levels: Tensor, quantization: dict[int, list[int]]) -> Tensor:
    """Set levels to black or white if they are no further from it than JPEG's rounding errors usually are.

    Args:
        levels: uint8 (height, width), changed in place.
        quantization: JPEG's tables, with a step for each of 64 coefficients; table 0 is luma's. Files of other formats
            have none. An error is evenly distributed over its step, and the transform is orthonormal, so a pixel's
            error has a standard deviation of √(mean of step² / 12).
    """
    if 0 in quantization:
        error = math.sqrt(sum(step**2 for step in quantization[0]) / len(quantization[0]) / 12)
        levels[levels < error] = 0
        levels[levels > 255 - error] = 255
    return levels


def background_level(images: Tensor) -> Tensor:
    """Level of each picture's background, the mean of the middle two of its four corners: float32 (n,), (n, channels).

    Args:
        images: (n, height, width) or (n, height, width, channels).
    """
    height, width = images.shape[1:3]
    side = max(round(min(height, width) * CORNER_FRACTION), 1)
    ends = (slice(None, side), slice(-side, None))
    corners = [images[:, rows, columns].float().mean((1, 2)) for rows in ends for columns in ends]
    return torch.stack(corners).sort(0).values[1:3].mean(0)


def scaled_to_fit(image: Tensor, height: int, width: int) -> Tensor:
    """The picture, uint8 (height, width[, 3]), scaled into a box, its aspect kept; its background fills the rest."""
    if image.shape[:2] == (height, width):
        return image
    scaled = scale_into(image, height, width)
    background = background_level(image[None])[0].round().to(torch.uint8)  # one level, or one for each channel
    fitted = background.expand(height, width, *image.shape[2:]).clone()
    top, left = (height - scaled.shape[0]) // 2, (width - scaled.shape[1]) // 2
    fitted[top : top + scaled.shape[0], left : left + scaled.shape[1]] = scaled
    return fitted


def scale_into(image: Tensor, height: int, width: int) -> Tensor:
    """The picture, uint8 or float32 (height, width[, 3]), as large as fits into the box, its aspect kept.

    A larger gray picture becomes the small one whose enlargement is closest to it, in the sense of least squares
    (Unser, Aldroubi & Eden 1995, IEEE Transactions on Image Processing 4(3)), by the kind of enlargement that gets
    closest.
    Unlike a filter that blurs first, this undoes the enlargement of a small picture, and so gives the network what it
    was trained on: with the usual filters, it decides differently on 1 to 4 % of FashionMNIST enlarged to 280 × 280.
    Pictures in colour are photographs more often than enlargements, and are made smaller by Pillow's bicubic filter,
    which takes a tenth of the time.
    """
    factor = min(height / image.shape[0], width / image.shape[1])
    rows, columns = (max(round(size * factor), 1) for size in image.shape[:2])
    if (rows, columns) == tuple(image.shape[:2]):
        return image
    picture = Image.fromarray(image.numpy())
    if factor > 1 or image.dim() == 3:
        kind = Image.Resampling.BILINEAR if factor > 1 else Image.Resampling.BICUBIC
        return torch.from_numpy(np.array(picture.resize((columns, rows), kind)))
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


@lru_cache(maxsize=256)
def _enlarging(large: int, small: int, kind: Image.Resampling) -> tuple[Tensor, Tensor]:
    """The matrix that enlarges `small` levels, float32 (large, small), and its pseudo-inverse (small, large)."""
    each = Image.fromarray(np.eye(small, dtype=np.float32))
    matrix = np.array(each.resize((small, large), kind), np.float64)
    return torch.from_numpy(matrix).float(), torch.from_numpy(np.linalg.pinv(matrix)).float()
