"""The images whose heatmaps tell their labels apart best and worst, drawn for the page."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw

from lib.common.errors import UserError
from lib.inference.overlays import add_caption, overlay_heatmap, save_image
from lib.reports.thumbnails import data_uri, thumbnail
from lib.scoring.heatmap_examples import HeatmapExample, HeatmapExamples, Place, load_examples

BOX = (68, 221, 238)  # as on the page of heatmaps
MOST_LABELS = 4
SIDE_OF_EXAMPLES = 320  # pixels


class HeatmapPicture(NamedTuple):
    """An image: `discrimination` by map, and by label the data URIs of its heatmaps with the true
    boxes, in the order of the maps; `left_out` labels are not shown."""

    path: str
    discrimination: dict[str, float]
    labels: list[tuple[str, list[str]]]
    left_out: int


class HeatmapPictures(NamedTuple):
    """One end of the ranking; `gone` images could not be read."""

    title: str
    shown: list[HeatmapPicture]
    gone: int


def heatmap_pictures(examples: HeatmapExamples | None) -> list[HeatmapPictures]:
    """The best and the worst, drawn; empty without `examples`."""
    if examples is None:
        return []
    return [
        _draw_all("Told apart best", examples.best, examples.exif),
        _draw_all("Told apart worst", examples.worst, examples.exif),
    ]


def write_examples(exp_dir: Path, folder: Path, count: int = 2) -> list[str]:
    """Write the images whose heatmaps tell labels apart best to `folder`, each with its heatmaps
    beside it; returns the file names. Raises `UserError` without any."""
    examples = load_examples(exp_dir) or HeatmapExamples("", [], [])
    images = [
        (image, example)
        for example in examples.best
        if (image := thumbnail(example.path, examples.exif, SIDE_OF_EXAMPLES))
    ][:count]
    if not images:
        raise UserError(
            f"--examples: {exp_dir} has no heatmaps of test images that can be read: run "
            "evaluate.py with a boxes.json in the data folder, or leave it out"
        )
    names = []
    for number, (image, example) in enumerate(images, 1):
        tiles = [add_caption(image, "image")]
        for place in example.labels[:MOST_LABELS]:
            name = next(iter(place.heatmaps))
            tiles.append(add_caption(overlay_heatmap(image, place.grid(name)), place.label))
        joined = Image.new("RGB", (sum(tile.width for tile in tiles), tiles[0].height))
        for column, tile in enumerate(tiles):
            joined.paste(tile, (column * tile.width, 0))
        names.append(f"example{number}.jpg")
        save_image(folder / names[-1], joined)
    return names


def _draw_all(title: str, examples: Sequence[HeatmapExample], exif: str) -> HeatmapPictures:
    shown = []
    for example in examples:
        image = thumbnail(example.path, exif)
        if image is None:
            continue
        labels = [
            (place.label, [_draw(image, place, name) for name in place.heatmaps])
            for place in example.labels[:MOST_LABELS]
        ]
        left_out = len(example.labels) - len(labels)
        shown.append(HeatmapPicture(example.path, example.discrimination, labels, left_out))
    return HeatmapPictures(title, shown, len(examples) - len(shown))


def _draw(image: Image.Image, place: Place, name: str) -> str:
    overlay = overlay_heatmap(image, place.grid(name))
    draw = ImageDraw.Draw(overlay)
    for x0, y0, x1, y1 in place.boxes:
        left, right = (round(x * (image.width - 1)) for x in (x0, x1))
        top, bottom = (round(y * (image.height - 1)) for y in (y0, y1))
        draw.rectangle((left, top, right, bottom), outline=BOX)
    return data_uri(overlay)
