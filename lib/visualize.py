"""Draws what a model saw: heatmap overlays of single labels.

Shapes: H x W patches.
"""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lib.files import atomic_write

COLOR_MAP = "inferno"  # perceptually uniform
MAX_SIDE = 640


@dataclass
class Overlay:
    """One label's heatmap on the page; `file` is relative to it."""

    label: str
    score: float
    verdict: str
    file: str


@dataclass
class Picture:
    """One image on the page, with the overlays of its labels."""

    path: str
    file: str
    overlays: list[Overlay] = field(default_factory=list)


def verdict(predicted: bool, present: bool | None) -> str:
    """`correct`, `false alarm` or `missed`; `predicted` where the truth is not known (None)."""
    if present is None:
        return "predicted"
    if present:
        return "correct" if predicted else "missed"
    return "false alarm"


def display_size(image: Image.Image) -> Image.Image:
    """The image, made smaller where its longer side has more than 640 pixels, larger under 256."""
    longest = max(image.size)
    scale = min(MAX_SIDE, max(longest, 256)) / longest
    if scale == 1:
        return image
    size = tuple(max(1, round(side * scale)) for side in image.size)
    return image.resize(size, Image.Resampling.BICUBIC)


def overlay_heatmap(image: Image.Image, heatmap: np.ndarray) -> Image.Image:
    """Lay `heatmap` (H, W), stretched from its least to its largest value, over an RGB image.

    Cold regions keep the picture, darkened; hot ones take the map's colour.
    """
    low, high = float(heatmap.min()), float(heatmap.max())
    scaled = (heatmap - low) / (high - low) if high > low else np.zeros_like(heatmap)
    smooth = Image.fromarray(scaled.astype(np.float32)).resize(image.size, Image.Resampling.BICUBIC)
    heat = np.clip(np.asarray(smooth), 0, 1)
    colors = _color_table()[(heat * 255).astype(np.uint8)]
    opacity = 0.35 + 0.35 * heat[..., None]
    mixed = np.asarray(image) * (1 - opacity) + colors * opacity
    return Image.fromarray(mixed.round().astype(np.uint8))


def add_caption(image: Image.Image, text: str) -> Image.Image:
    """The image on top of a dark strip with `text`, shortened to fit."""
    font = _font()
    height = font.size + 10
    while font.getlength(text) > image.width - 12 and len(text) > 1:
        text = text[:-2] + "…"
    framed = Image.new("RGB", (image.width, image.height + height), (24, 24, 24))
    framed.paste(image)
    ImageDraw.Draw(framed).text((6, image.height + 4), text, fill=(240, 240, 240), font=font)
    return framed


def save_image(path: Path, image: Image.Image) -> None:
    """Write a JPEG, whole or not at all."""
    with atomic_write(path, "wb") as file:
        image.save(file, format="JPEG", quality=88)


@cache
def _color_table() -> np.ndarray:
    """RGB of the colour map at 256 levels, float (256, 3) in 0..255."""
    return matplotlib.colormaps[COLOR_MAP](np.arange(256))[:, :3] * 255


@cache
def _font() -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along: it has far more scripts than Pillow's own."""
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), 15)
