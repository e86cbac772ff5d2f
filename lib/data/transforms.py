"""From a picture file to uint8 pixels (3, S, S), as the method reads them in training and testing.

Normalisation is not here: pixels cross to the device as uint8 and `Normalizer` runs there.
"""

import contextlib
import functools
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from lib.common.errors import UserError
from lib.data.augment import apply_operation, cut_rectangle, draw_policy, draw_rectangle

# of Pillow's decoders those for pictures; EPS would start another program
FORMATS = "JPEG MPO PNG WEBP BMP DIB GIF TIFF AVIF JPEG2000 PPM".split()


@contextlib.contextmanager
def open_image(path: str | Path) -> Iterator[Image.Image]:
    """Open a picture file; a `UserError` names the path if it cannot be opened or decoded.

    Pillow refuses pictures of more than 179 million pixels. What it warns of (half as many, odd
    metadata) is no fault.
    """
    with warnings.catch_warnings(action="ignore"):
        try:
            with Image.open(path, formats=_known_formats()) as image:
                yield image
        except UserError:
            raise
        except FileNotFoundError as error:
            raise UserError(f"{path}: no such image") from error
        except Image.DecompressionBombError as error:
            most = round(2e-6 * (Image.MAX_IMAGE_PIXELS or 0))
            raise UserError(
                f"{path}: not a readable image: more than {most} million pixels"
            ) from error
        except UnidentifiedImageError as error:
            raise UserError(f"{path}: not a readable image: of no known format") from error
        except Exception as error:  # bytes from elsewhere can fail a decoder in any way
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"{path}: not a readable image: {reason}") from error


@functools.cache
def _known_formats() -> list[str]:
    """`FORMATS` as far as this Pillow has them."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def read_image(path: str | Path) -> Image.Image:
    """Decode a picture file to RGB, its pixels as they are stored.

    Of an animation the first picture counts, of a transparent one the colours.
    """
    with open_image(path) as image:
        return to_rgb(image, path)


def to_rgb(image: Image.Image, path: str | Path) -> Image.Image:
    """Decode an opened picture to RGB; 16-bit grey is scaled to 8 bits, not clipped to white."""
    if image.mode == "F":
        raise UserError(f"{path}: floating-point pixels; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        grey = np.asarray(image).clip(0, 65535) // 257
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def resize(image: Image.Image, size: int) -> Image.Image:
    """Resize to `size` x `size`, bilinear, whatever the aspect."""
    return image.resize((size, size), Image.Resampling.BILINEAR)


def train_transform(
    image: Image.Image, size: int, augment: str, random: np.random.Generator
) -> Image.Image:
    """Resize, then flip, cut out a rectangle and apply the random policy.

    `augment` is "published" for all of it, "flip" for the flip alone, "none" for the resize alone.
    `random` is fresh for each image, so the result depends on the image and its key only.
    """
    image = resize(image, size)
    if augment == "none":
        return image
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if augment == "flip":
        return image
    image = cut_rectangle(image, draw_rectangle(random, image.size))
    for step in draw_policy(random, image.size):
        image = apply_operation(image, step)
    return image


def to_pixels(image: Image.Image) -> Tensor:
    """RGB image -> uint8 (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


class Normalizer:
    """Maps uint8 pixels (B, 3, S, S) to float32: in [0, 1], less `mean`, over `std`.

    In the memory order of channels last, in which convolutions are fastest.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self.mean = torch.tensor(mean, device=device).view(1, 3, 1, 1)
        self.std = torch.tensor(std, device=device).view(1, 3, 1, 1)

    def __call__(self, pixels: Tensor) -> Tensor:
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        return (pixels.float() / 255 - self.mean) / self.std
