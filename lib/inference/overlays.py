"""Draws images upright, and heatmaps over them.

Shapes: M maps, H x W patches.
"""

from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lib.common.cli import UPRIGHT
from lib.common.errors import writing
from lib.common.text import escape_controls
from lib.data.dataset import TURNS, open_image, orientation, to_rgb, turn_upright

COLOR_MAP = "inferno"  # perceptually uniform
MAX_SIDE, THUMBNAIL, MIN_SIDE, GAP = 640, 240, 8, 6  # pixels


def read_upright(path: str | Path, exif: str) -> tuple[Image.Image, int]:
    """The RGB image, turned upright, and the EXIF orientation (1 to 8) by which `turn_grids` turns
    the heatmaps of a model that reads images by `exif`; 1 turns nothing.

    A JPEG much larger than what is shown is decoded at a fraction of its size.
    """
    with open_image(path) as image:
        image.draft(None, (MAX_SIDE, MAX_SIDE))
        pixels = to_rgb(image, path, exif)  # decodes, and turns a TIFF: it notes nothing afterwards
        turn = orientation(image)
    return turn_upright(pixels, turn), 1 if exif == UPRIGHT else turn


def turn_grids(grids: np.ndarray, orientation: int) -> np.ndarray:
    """Heatmaps (M, C, H, W) turned as EXIF's `orientation` asks."""
    if orientation not in TURNS:
        return grids
    turn = TURNS[orientation]
    return np.array(
        [[Image.fromarray(grid).transpose(turn) for grid in of_map] for of_map in grids]
    )


def display_size(image: Image.Image, most: int = MAX_SIDE) -> Image.Image:
    """The image, reduced if its longer side has more than `most` pixels, enlarged if under 256.

    Both sides have at least 8 pixels, even if that changes the aspect.
    """
    longest = max(image.size)
    scale = min(most, max(longest, 256)) / longest
    width, height = (max(MIN_SIDE, round(side * scale)) for side in image.size)
    size = (width, height)
    return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)


def levels(heatmap: np.ndarray) -> np.ndarray:
    """`heatmap` (H, W), scaled from its smallest to its largest value -> uint8; 0 if it is flat."""
    low, high = float(heatmap.min()), float(heatmap.max())
    scaled = (heatmap - low) / (high - low) if high > low else np.zeros_like(heatmap)
    return (scaled * 255).round().astype(np.uint8)


def overlay_heatmap(image: Image.Image, heatmap: np.ndarray) -> Image.Image:
    """Draw the `levels` of `heatmap` (H, W) over an RGB image.

    Cold regions show the image, darkened; hot ones the colour of the map.
    """
    scaled = Image.fromarray(levels(heatmap).astype(np.float32))
    smooth = np.asarray(scaled.resize(image.size, Image.Resampling.BICUBIC)).clip(0, 255)
    colors = color_table()[smooth.round().astype(np.uint8)]
    opacity = 0.35 + 0.35 * smooth[..., None] / 255
    mixed = np.asarray(image) * (1 - opacity) + colors * opacity
    return Image.fromarray(mixed.round().astype(np.uint8))


def overlay_heatmaps(image: Image.Image, heatmaps: np.ndarray) -> Image.Image:
    """`overlay_heatmap` of each of `heatmaps` (M, H, W), side by side."""
    joined = Image.new("RGB", (len(heatmaps) * (image.width + GAP) - GAP, image.height), "white")
    for place, heatmap in enumerate(heatmaps):
        joined.paste(overlay_heatmap(image, heatmap), (place * (image.width + GAP), 0))
    return joined


def add_caption(image: Image.Image, text: str) -> Image.Image:
    """The image on top of a dark strip with `text`, shortened to fit."""
    font, text = _font(), escape_controls(text)
    height = int(font.size) + 10
    while font.getlength(text) > image.width - 12 and len(text) > 1:
        text = text[:-2] + "…"
    framed = Image.new("RGB", (image.width, image.height + height), (24, 24, 24))
    framed.paste(image)
    ImageDraw.Draw(framed).text((6, image.height + 4), text, fill=(240, 240, 240), font=font)
    return framed


def save_image(path: Path, image: Image.Image) -> None:
    """Write a JPEG into a staged folder."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, format="JPEG", quality=86)


@cache
def color_table() -> np.ndarray:
    """RGB of the colour map at 256 levels, uint8 (256, 3)."""
    return (matplotlib.colormaps[COLOR_MAP](np.arange(256))[:, :3] * 255).round().astype(np.uint8)


@cache
def _font() -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and has far more scripts than Pillow's own font."""
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), 15)
