"""How an image is changed: the train and eval transforms of the method, on Pillow RGB images.

Drawing (`draw_policy`, `draw_rectangle`) and applying (`apply_operation`, `cut_rectangle`) are
apart, so that an operation can be tested against its magnitude.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

GREY = (128, 128, 128)
CUTOUT_FILL = (125, 122, 113)
MAX_MAGNITUDE = 9
POLICY_STEPS = 2
APPLY_PROBABILITY = 0.5


def resize(image: Image.Image, size: int) -> Image.Image:
    """Resize to `size` x `size`, bilinear, whatever the aspect: the eval transform, and the first
    step of the train transform."""
    return image.resize((size, size), Image.Resampling.BILINEAR)


def draw_flip(random: np.random.Generator) -> bool:
    """Whether an image is flipped: the first draw of its generator."""
    return random.random() < 0.5


def flip(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Flip from left to right with probability 0.5."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draw_flip(random) else image


def published_augmentation(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Flip, cut out a rectangle, and apply the random policy."""
    image = flip(image, random)
    image = cut_rectangle(image, draw_rectangle(random, image.size))
    for step in draw_policy(random, image.size):
        image = apply_operation(image, step)
    return image


# the choices of --augment: what the train transform does to a resized image
TRAIN_TRANSFORMS: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "published": published_augmentation,
    "flip": flip,
    "none": lambda image, random: image,
}


class Operation(NamedTuple):
    """`apply(image, value)` with value `low + (high - low) * m / 9`, of random sign if `signed`."""

    apply: Callable[[Image.Image, float], Image.Image]
    low: float = 0.0
    high: float = 0.0
    signed: bool = False

    def value(self, magnitude: int) -> float:
        """The unsigned value at `magnitude` in 1..9."""
        return self.low + (self.high - self.low) * magnitude / MAX_MAGNITUDE


class PolicyStep(NamedTuple):
    """One drawn step of the random policy; `center` (column, row) is used by Cutout only."""

    operation: str
    magnitude: int
    sign: int
    center: tuple[int, int]


class Rectangle(NamedTuple):
    """A drawn cut-out: its `center` (column, row) and `color` (R, G, B)."""

    center: tuple[int, int]
    color: tuple[int, int, int]


def draw_policy(random: np.random.Generator, size: tuple[int, int]) -> list[PolicyStep]:
    """Draw the steps to apply to an image of `size` (width, height).

    Each of two steps draws one of 15 operations and a magnitude in 1..9 uniformly, and is kept
    with probability 0.5.
    """
    steps = []
    for _ in range(POLICY_STEPS):
        name = POLICY[random.integers(len(POLICY))]
        magnitude = int(random.integers(1, MAX_MAGNITUDE + 1))
        kept = random.random() < APPLY_PROBABILITY
        sign = 1 if random.random() < 0.5 else -1
        center = _draw_point(random, size)
        if kept:
            steps.append(PolicyStep(name, magnitude, sign, center))
    return steps


def draw_rectangle(random: np.random.Generator, size: tuple[int, int]) -> Rectangle:
    """Draw a cut-out: centre uniform on the image, each colour channel uniform in 0..255."""
    center = _draw_point(random, size)
    red, green, blue = (int(channel) for channel in random.integers(0, 256, 3))
    return Rectangle(center, (red, green, blue))


def apply_operation(image: Image.Image, step: PolicyStep) -> Image.Image:
    """Apply one drawn step."""
    if step.operation == CUTOUT:
        (x, y), half = step.center, round(20 * step.magnitude / MAX_MAGNITUDE) // 2
        return _fill(image, (x - half, y - half, x + half - 1, y + half - 1), CUTOUT_FILL)
    operation = OPERATIONS[step.operation]
    value = operation.value(step.magnitude)
    return operation.apply(image, value * step.sign if operation.signed else value)


def cut_rectangle(image: Image.Image, rectangle: Rectangle) -> Image.Image:
    """Fill from c - S/4 to c + S/4, both ends included, around the centre c, clipped."""
    (x, y), half = rectangle.center, image.width // 4
    return _fill(image, (x - half, y - half, x + half, y + half), rectangle.color)


def _draw_point(random: np.random.Generator, size: tuple[int, int]) -> tuple[int, int]:
    return int(random.integers(size[0])), int(random.integers(size[1]))


def _fill(
    image: Image.Image, box: tuple[int, int, int, int], color: tuple[int, int, int]
) -> Image.Image:
    """Fill the box (x0, y0, x1, y1), both ends included, clipped at the borders."""
    filled = image.copy()
    ImageDraw.Draw(filled).rectangle(box, fill=color)
    return filled


def _affine(*matrix: float, image: Image.Image, resample: Image.Resampling) -> Image.Image:
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, resample=resample, fillcolor=GREY
    )


def _shear(image: Image.Image, along_x: float, along_y: float) -> Image.Image:
    """Shear about the top-left corner."""
    return _affine(1, along_x, 0, along_y, 1, 0, image=image, resample=Image.Resampling.BICUBIC)


def _translate(image: Image.Image, along_x: float, along_y: float) -> Image.Image:
    """Move by fractions of the sides."""
    x, y = along_x * image.width, along_y * image.height
    return _affine(1, 0, x, 0, 1, y, image=image, resample=Image.Resampling.NEAREST)


def _rotate(image: Image.Image, degrees: float) -> Image.Image:
    turned = image.convert("RGBA").rotate(degrees)
    grey = Image.new("RGBA", turned.size, (*GREY, 255))
    return Image.composite(turned, grey, turned).convert("RGB")


def _enhance(enhancer: Callable[..., Any], image: Image.Image, value: float) -> Image.Image:
    return enhancer(image).enhance(1 + value)


OPERATIONS: dict[str, Operation] = {
    "ShearX": Operation(lambda i, v: _shear(i, v, 0), 0, 0.3, signed=True),
    "ShearY": Operation(lambda i, v: _shear(i, 0, v), 0, 0.3, signed=True),
    "TranslateX": Operation(lambda i, v: _translate(i, v, 0), 0, 150 / 331, signed=True),
    "TranslateY": Operation(lambda i, v: _translate(i, 0, v), 0, 150 / 331, signed=True),
    "Rotate": Operation(_rotate, 0, 30),
    "Color": Operation(partial(_enhance, ImageEnhance.Color), 0, 0.9, signed=True),
    "Contrast": Operation(partial(_enhance, ImageEnhance.Contrast), 0, 0.9, signed=True),
    "Brightness": Operation(partial(_enhance, ImageEnhance.Brightness), 0, 0.9, signed=True),
    "Sharpness": Operation(partial(_enhance, ImageEnhance.Sharpness), 0, 0.9, signed=True),
    "Posterize": Operation(lambda i, v: ImageOps.posterize(i, round(v)), 8, 4),
    # Pillow compares with a float as well as with an int
    "Solarize": Operation(lambda i, v: ImageOps.solarize(i, v), 256, 0),  # type: ignore[arg-type]
    "AutoContrast": Operation(lambda i, v: ImageOps.autocontrast(i)),
    "Equalize": Operation(lambda i, v: ImageOps.equalize(i)),
    "Invert": Operation(lambda i, v: ImageOps.invert(i)),
}
# Cutout needs a centre, so it is no function of an image and a value
CUTOUT = "Cutout"
POLICY = (*OPERATIONS, CUTOUT)
