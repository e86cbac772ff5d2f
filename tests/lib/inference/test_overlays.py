"""Pictures as a person sees them, and heatmaps that lie where the model looked."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from lib.data.dataset import read_image
from lib.inference.overlays import (
    add_caption,
    color_table,
    display_size,
    levels,
    overlay_heatmap,
    read_upright,
    turn_grids,
)


def save_noted(file, orientation, pixels):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(file, exif=exif)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heatmaps_turn_with_their_picture(tmp_path, orientation):
    """Against Pillow's own turn of a picture in which each patch has a grey of its own."""
    grey = np.arange(0, 240, 40, dtype=np.uint8).reshape(2, 3)
    file = tmp_path / "a.png"
    save_noted(file, orientation, np.repeat(np.repeat(grey, 4, 0), 4, 1))
    image, found = read_upright(file, "stored")
    assert found == orientation
    expected = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
    np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))
    grids = np.array([[grey, grey + 1], [grey + 2, grey + 3]], np.float32)
    expected = np.asarray(image)[2::4, 2::4, 0] + np.arange(4).reshape(2, 2, 1, 1)
    np.testing.assert_array_equal(turn_grids(grids, orientation), expected)
    assert read_image(file, "stored").size == (12, 8)  # what the model reads
    upright, found = read_upright(file, "upright")  # whose heatmap is not turned
    assert found == 1 and upright.tobytes() == read_image(file).tobytes()


def test_a_tiff_is_turned_once(tmp_path):
    """Pillow turns it as it decodes, for the model too."""
    save_noted(tmp_path / "a.tif", 6, np.zeros((8, 12, 3), np.uint8))
    image, orientation = read_upright(tmp_path / "a.tif", "stored")
    assert image.size == read_image(tmp_path / "a.tif", "stored").size and orientation == 1


@pytest.mark.parametrize(
    ("size", "most", "shown"),
    [
        ((1, 1), 640, (256, 256)),
        ((20000, 10), 640, (640, 8)),
        ((10, 20000), 640, (8, 640)),
        ((640, 480), 640, (640, 480)),
        ((4000, 3000), 640, (640, 480)),
        ((100, 50), 640, (256, 128)),
        ((300, 200), 640, (300, 200)),
        ((640, 320), 240, (240, 120)),
        ((256, 256), 240, (240, 240)),
    ],
)
def test_any_size_is_shown(size, most, shown):
    image = display_size(Image.new("RGB", size), most)
    assert image.size == shown
    captioned = add_caption(overlay_heatmap(image, np.eye(3, 5, dtype=np.float32)), "a label")
    assert captioned.size == (shown[0], shown[1] + 25)


def test_captions_take_any_text():
    image = Image.new("RGB", (100, 50))
    for text in ("a\nb\x1b[2J 0.5", "\U0001f600 0.5", "x" * 300):
        assert add_caption(image, text).size == (100, 75)


def test_levels_are_stretched():
    found = levels(np.array([[0.25, 0.4], [0.75, 0.25]], np.float32))
    assert found.dtype == np.uint8 and found.tolist() == [[0, 76], [255, 0]]
    assert levels(np.full((1, 1), 0.7, np.float32)).tolist() == [[0]]


def test_colours_grow_evenly_lighter():
    """Each level is as much lighter than the one before as any other, but for rounding."""
    luminance = (color_table() / 255) ** 2.2 @ np.array([0.2126, 0.7152, 0.0722])
    lightness = 116 * np.cbrt(luminance)
    steps = np.diff(lightness[::16])
    assert (steps > 0).all() and steps[2:].std() < 0.25 * steps[2:].mean()


def test_overlay_is_hot_where_the_heatmap_is():
    image = Image.new("RGB", (60, 20), (100, 100, 100))
    found = np.asarray(overlay_heatmap(image, np.array([[0, 0, 1]], np.float32))).sum(axis=2)
    assert found[:, 50:].mean() > 1.5 * found[:, :30].mean()
