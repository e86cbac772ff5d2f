"""The pictures of a report and of a model card: the worst mistakes, and the images whose heatmaps
tell their labels apart best and worst. Images that cannot be read any more are left out."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from lib.common.cli import UPRIGHT
from lib.common.errors import UserError
from lib.data.dataset import read_image
from lib.inference.overlays import add_caption, overlay_heatmap, save_image
from lib.reports.results import Scores
from lib.scoring.heatmap_examples import HeatmapExamples, LabelHeatmaps, load_examples
from lib.scoring.mistakes import Verdicts, worst_entries

SIDE, SIDE_ON_CARD = 168, 320  # pixels of the longer one
BOX = (68, 221, 238)  # as on the page of heatmaps
MOST_LABELS = 4  # of an image whose heatmaps are shown
ON_CARD = 2  # images


def worst_mistakes(stored: Scores, verdicts: Verdicts, limit: int) -> Iterator[dict[str, Any]]:
    """Of both kinds of mistakes the `title`, the CSS class of their `kind`, the `total` number of
    images with one, and the worst `limit` of these as `shown`; `gone` ones are replaced by the
    next."""
    for title, kind, marks in (
        ("False alarms with the highest scores", "false", verdicts.false_alarm),
        ("Positives with the lowest scores", "missed", verdicts.missed),
    ):
        shown: list[dict[str, Any]] = []
        gone = 0
        for row, column in worst_entries(stored.scores, marks, highest=kind == "false"):
            if len(shown) == limit:
                break
            image = _thumbnail(stored.paths[row])
            if image is None:
                gone += 1
                continue
            present = np.flatnonzero((stored.targets * ~stored.ignore)[row])
            shown.append(
                {
                    "path": stored.paths[row],
                    "thumbnail": _data_uri(image),
                    "label": stored.labels[column],
                    "score": float(stored.scores[row, column]),
                    "truth": ", ".join(stored.labels[column] for column in present),
                }
            )
        total = int(marks.any(axis=1).sum())
        yield {"title": title, "kind": kind, "total": total, "shown": shown, "gone": gone}


def heatmap_pictures(exp_dir: Path) -> Iterator[dict[str, Any]]:
    """Of the images told apart best and worst the `title`, and as `shown` each image's
    `discrimination` by map, and by label the data URIs of its heatmaps with the true boxes, in the
    order of the maps. Nothing without `heatmaps.json`."""
    examples = load_examples(exp_dir)
    if examples is None:
        return
    for title, part in (
        ("Told apart best", examples.best),
        ("Told apart worst", examples.worst),
    ):
        shown = [
            {
                "path": example.path,
                "discrimination": example.discrimination,
                "labels": [
                    (one.label, [_data_uri(_with_boxes(image, one, name)) for name in one.heatmaps])
                    for one in example.labels[:MOST_LABELS]
                ],
                "left_out": max(0, len(example.labels) - MOST_LABELS),
            }
            for example in part
            if (image := _thumbnail(example.path, examples.exif))
        ]
        yield {"title": title, "shown": shown, "gone": len(part) - len(shown)}


def write_examples(exp_dir: Path, folder: Path) -> list[str]:
    """Write the images whose heatmaps tell labels apart best to `folder`, each with its heatmaps
    beside it; returns the file names. Raises `UserError` without any."""
    examples = load_examples(exp_dir) or HeatmapExamples("", [], [])
    names: list[str] = []
    for example in examples.best:
        image = _thumbnail(example.path, examples.exif, SIDE_ON_CARD)
        if image is None or len(names) == ON_CARD:
            continue
        tiles = [add_caption(image, "image")]
        for one in example.labels[:MOST_LABELS]:
            heatmap = one.grid(next(iter(one.heatmaps)))
            tiles.append(add_caption(overlay_heatmap(image, heatmap), one.label))
        joined = Image.new("RGB", (sum(tile.width for tile in tiles), tiles[0].height))
        for column, tile in enumerate(tiles):
            joined.paste(tile, (column * tile.width, 0))
        names.append(f"example{len(names) + 1}.jpg")
        save_image(folder / names[-1], joined)
    if not names:
        raise UserError(
            f"--examples: {exp_dir} has no heatmaps of test images that can be read: run "
            "evaluate.py with a boxes.json in the data folder, or leave it out"
        )
    return names


def _with_boxes(image: Image.Image, label: LabelHeatmaps, name: str) -> Image.Image:
    overlay = overlay_heatmap(image, label.grid(name))
    draw = ImageDraw.Draw(overlay)
    size = np.array([image.width - 1, image.height - 1] * 2)
    for box in label.boxes:
        draw.rectangle([round(edge) for edge in box * size], outline=BOX)
    return overlay


def _thumbnail(path: str, exif: str = UPRIGHT, side: int = SIDE) -> Image.Image | None:
    """A small copy of an image; None if it cannot be read any more."""
    try:
        image = read_image(path, exif)
    except UserError:
        return None
    image.thumbnail((side, side))
    return image


def _data_uri(image: Image.Image) -> str:
    """The image as a JPEG inside a URI."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
