"""The folder `visualization/`: predictions, heatmaps and the page of an experiment's images.

Shapes: M maps, C labels, H x W patches.
"""

import base64
import contextlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib.common.cli import UPRIGHT
from lib.common.files import atomic_write, write_npz
from lib.common.html import write_page
from lib.data.pictures import read_header
from lib.inference.overlays import (
    THUMBNAIL,
    add_caption,
    color_table,
    display_size,
    levels,
    overlay_heatmaps,
    read_upright,
    save_image,
    turn_grids,
)
from lib.inference.tags import PREDICTED, TaggedImage
from lib.scoring.boxes import box_around
from lib.scoring.mistakes import MISSED
from models.heads import MEANINGS

PAGE, DATA, PREDICTIONS = "index.html", "data.js", "predictions.jsonl"
OVERLAYS = "overlays"
PICTURES = (PAGE, DATA, "images", "thumbnails", "grids", OVERLAYS)


@dataclass(frozen=True)
class Gallery:
    """Draws images into the folder `stage`, with heatmaps by `maps` (M,) of `labels` (C,), of a
    model that reads images by `exif`. The first map, or the first `together` side by side, are
    shown; `overlays` of these are written as images too. With `boxes`, there is a box around the
    heatmap of each label, of the first map."""

    stage: Path
    labels: list[str]
    exif: str
    maps: list[str]
    together: int = 1
    overlays: bool = False
    boxes: bool = False

    def draw(self, tagged: TaggedImage, scores: np.ndarray, grids: np.ndarray) -> TaggedImage:
        """Write the files of an image with `scores` (C,) and heatmaps (M, C, H, W); returns it with
        its entry in `data.js`.

        The page shows the image upright, and its heatmaps with it; the raw grids are those of the
        model, and `orientation` is the turn that they lack.
        """
        path, tags = tagged.path, tagged.tags
        name = f"{tagged.row:05d}_{_slug(os.path.splitext(os.path.basename(path))[0])}"
        image, orientation = read_upright(path, self.exif)
        image = display_size(image)
        upright = turn_grids(grids, orientation)
        save_image(self.stage / "images" / f"{name}.jpg", image)
        save_image(self.stage / "thumbnails" / f"{name}.jpg", display_size(image, THUMBNAIL))
        write_npz(
            self.stage / "grids" / f"{name}.npz",
            scores=scores,
            labels=np.array(self.labels),
            orientation=np.array(orientation),
            **dict(zip(self.maps, grids, strict=True)),
        )
        for column, label, score, _ in tags if self.overlays else ():
            overlay = overlay_heatmaps(image, upright[: self.together, column])
            shown = ", ".join(self.maps[: self.together])
            overlay = add_caption(overlay, f"{label}  {score:.3f}  {shown}")
            save_image(self.stage / OVERLAYS / name / f"{column:04d}_{_slug(label)}.jpg", overlay)
        page: dict[str, Any] = {
            "path": path,
            "tags": [
                [tag.column, tag.score, tag.verdict, *map(_packed, upright[:, tag.column])]
                for tag in tags
            ],
        }
        if self.boxes:
            page["map"] = self.maps[0]
            page["boxes"] = [box_around(upright[0, tag.column]).round(4).tolist() for tag in tags]
            page["pixels"] = list(read_header(path, UPRIGHT).size)
        page |= {"name": name, "size": list(image.size), "grid": list(upright.shape[2:])}
        return tagged._replace(page=page)


class ResultsWriter:
    """Writes `predictions.jsonl` into the folder `stage`, and the page of a `gallery`, image by
    image; its files are closed by `stack`."""

    def __init__(self, stack: contextlib.ExitStack, stage: Path, gallery: Gallery | None) -> None:
        self.stage, self.gallery = stage, gallery
        self._lines = stack.enter_context(atomic_write(stage / PREDICTIONS, "wb"))
        if gallery:
            self._data = stack.enter_context(atomic_write(stage / DATA, "wb"))
            colors = base64.b64encode(color_table().tobytes()).decode()
            maps = [[name, MEANINGS[name]] for name in gallery.maps]
            head = f'"labels": {json.dumps(gallery.labels)},\n"colors": "{colors}",\n'
            head += f'"maps": {json.dumps(maps)},\n"together": {gallery.together},\n'
            self._data.write(f'window.heatmaps = {{\n{head}"pictures": [\n'.encode())

    def add(self, image: TaggedImage) -> None:
        """Add an image that was tagged, and drawn if there is a page."""
        self.add_line(prediction(image))
        if self.gallery:
            self._data.write(json.dumps(image.page).encode() + b",\n")

    def add_line(self, value: dict[str, Any]) -> None:
        """Add a line to `predictions.jsonl`; bytes of file names that are no UTF-8 become JSON's
        escapes."""
        text = json.dumps(value, ensure_ascii=False) + "\n"
        self._lines.write(text.encode("utf-8", "backslashreplace"))

    def finish(self, title: str, facts: str) -> None:
        """Write the page, if there is one."""
        if self.gallery:
            self._data.write(b"]};\n")
            write_page(self.stage / PAGE, "heatmaps.html", title=title, facts=facts)


def prediction(image: TaggedImage) -> dict[str, Any]:
    """The line of an image in `predictions.jsonl`."""
    predicted, missed, page = [], [], image.page
    for place, tag in enumerate(image.tags):
        item: dict[str, Any] = {"label": tag.label, "score": round(tag.score, 6)}
        if "boxes" in page:
            box = np.array(page["boxes"][place]) * np.array(page["pixels"] * 2)
            item["box"] = box.round(1).tolist()
        if tag.verdict == MISSED:
            missed.append(item)
        else:
            predicted.append(item if tag.verdict == PREDICTED else {**item, "verdict": tag.verdict})
    found = {"path": image.path, "predicted": predicted}
    if "boxes" in page:
        found["map"] = page["map"]  # that the boxes are around
    if missed:
        found["missed"] = missed
    return {**found, "heatmaps": f"grids/{page['name']}.npz"} if page else found


def _packed(heatmap: np.ndarray) -> str:
    """The `levels` of a heatmap (H, W) as text, row by row, one byte for each patch."""
    return base64.b64encode(levels(heatmap).tobytes()).decode()


def _slug(text: str) -> str:
    """Letters, digits and dashes of `text`, at most 60, so that it is safe in a file name."""
    return re.sub(r"[^A-Za-z0-9-]+", "_", text)[:60] or "_"
