"""From a decoded image to uint8 pixels (3, S, S): the train and eval transforms of the method.

Pixels are moved to the device as uint8, where `Normalizer` runs.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lib.data.augment import apply_operation, cut_rectangle, draw_policy, draw_rectangle


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
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draw_flip(random) else image


def draw_flip(random: np.random.Generator) -> bool:
    """Whether an image is flipped: the first draw of its generator."""
    return random.random() < 0.5


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
