"""From an image file to uint8 pixels (3, S, S): the train and eval transforms of the method.

Pixels are moved to the device as uint8, where `Normalizer` runs.
"""

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from lib.common.errors import UserError
from lib.common.failures import explain
from lib.data.augment import apply_operation, cut_rectangle, draw_policy, draw_rectangle

# file name endings of images, in lower case
IMAGE_ENDINGS = frozenset(
    ".jpg .jpeg .jpe .jfif .pjpeg .png .webp .bmp .gif .tif .tiff .avif .jp2 .ppm .pgm".split()
)
# Pillow's decoders that are used; EPS would start another program
FORMATS = "JPEG MPO PNG WEBP BMP DIB GIF TIFF AVIF JPEG2000 PPM".split()


def images_in(folder: Path) -> list[Path]:
    """The image files below `folder`, sorted."""
    found = (file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_ENDINGS)
    return sorted(file for file in found if file.is_file())


@contextlib.contextmanager
def open_image(path: str | Path) -> Iterator[Image.Image]:
    """Open an image file. Raises `UserError`, naming the path, if it cannot be opened or decoded.

    Pillow refuses images of more than 179 million pixels; its warnings (half as many pixels, odd
    metadata) are suppressed.
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
        except Exception as error:  # a damaged file can raise anything in a decoder
            if explain(error):  # nothing is wrong with the file
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"{path}: not a readable image: {reason}") from error


@functools.cache
def _known_formats() -> list[str]:
    """`FORMATS` as far as this Pillow has them."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def read_image(path: str | Path) -> Image.Image:
    """Decode an image file to RGB, its pixels as they are stored.

    An animation becomes its first frame; transparency is ignored.
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
    """Resize, then augment by `augment`, a key of `TRAIN_TRANSFORMS`.

    `random` is a new generator for each image, so the result depends on the image and its key only.
    """
    return TRAIN_TRANSFORMS[augment](resize(image, size), random)


def no_augmentation(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """The image as it is."""
    return image


def flip(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Flip from left to right with probability 0.5."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else image


def published_augmentation(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Flip, cut out a rectangle, and apply the random policy."""
    image = flip(image, random)
    image = cut_rectangle(image, draw_rectangle(random, image.size))
    for step in draw_policy(random, image.size):
        image = apply_operation(image, step)
    return image


# the choices of --augment
TRAIN_TRANSFORMS: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "published": published_augmentation,
    "flip": flip,
    "none": no_augmentation,
}


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
