"""The folder `visualization/`: predictions, heatmaps and the page of an experiment's images.

Images are drawn one by one on all ranks, and recorded in a file of each rank; the main process then
joins these notes one at a time, so that memory does not grow with the number of images.

Shapes: M maps, C labels, H x W patches.
"""

import base64
import contextlib
import heapq
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lib.common.cli import UPRIGHT
from lib.common.errors import writing
from lib.common.files import atomic_write, staged_folder, write_npz
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
from lib.inference.tags import PREDICTED, Tag
from lib.scoring.boxes import box_around
from lib.scoring.mistakes import MISSED
from models.output import MEANINGS

PAGE, DATA, PREDICTIONS = "index.html", "data.js", "predictions.jsonl"
OVERLAYS = "overlays"
PICTURES = (PAGE, DATA, "images", "thumbnails", "grids", OVERLAYS)
Note = dict[str, Any]


class Gallery:
    """A staged folder of images with `labels` (C,), which the model reads by `exif`, and their
    heatmaps by `maps` (M,), of which the first, or the first `together` side by side, are shown;
    each rank adds its own. With `boxes`, there is a box around the heatmap of each label, of the
    first map. With `tags_only`, only `predictions.jsonl` is written."""

    def __init__(
        self,
        stage: Path,
        labels: Sequence[str],
        exif: str,
        maps: Sequence[str],
        together: int = 1,
        overlays: bool = False,
        boxes: bool = False,
        tags_only: bool = False,
    ) -> None:
        self.stage, self.labels, self.exif = stage, list(labels), exif
        self.maps, self.together = list(maps), together
        self.overlays, self.boxes, self.tags_only = overlays, boxes, tags_only

    def draw(
        self, row: int, path: str, scores: np.ndarray, grids: np.ndarray, tags: Sequence[Tag]
    ) -> Note:
        """Write the files of an image with `scores` (C,) and heatmaps (M, C, H, W); returns its
        note. Overlays are those of the maps that are shown.

        The page shows the image upright, and its heatmaps with it; the raw grids are those of the
        model, and `orientation` is the turn that they lack.
        """
        best = int(np.argmax(scores))
        note: Note = {
            "row": row,
            "path": path,
            "best": [best, float(scores[best])],
            "tags": [[*tag] for tag in tags],
        }
        return note if self.tags_only else note | self._draw(row, path, scores, grids, tags)

    def _draw(
        self, row: int, path: str, scores: np.ndarray, grids: np.ndarray, tags: Sequence[Tag]
    ) -> Note:
        name = f"{row:05d}_{_slug(os.path.splitext(os.path.basename(path))[0])}"
        image, orientation = read_upright(path, self.exif)
        image = display_size(image)
        shown = {tag.column: turn_grids(grids[:, tag.column], orientation) for tag in tags}
        save_image(self.stage / "images" / f"{name}.jpg", image)
        save_image(self.stage / "thumbnails" / f"{name}.jpg", display_size(image, THUMBNAIL))
        write_npz(
            self.stage / "grids" / f"{name}.npz",
            scores=scores,
            labels=np.array(self.labels),
            orientation=np.array(orientation),
            **dict(zip(self.maps, grids, strict=True)),
        )
        if self.overlays:
            self._draw_overlays(name, image, shown, tags)
        found: Note = {}
        if self.boxes:
            found["map"] = self.maps[0]
            found["boxes"] = [box_around(shown[tag.column][0]).round(4).tolist() for tag in tags]
            found["pixels"] = list(read_header(path, UPRIGHT).size)
        return {
            **found,
            "name": name,
            "size": list(image.size),
            "grid": list(turn_grids(grids, orientation).shape[2:]),
            "tags": [[*tag, *map(_packed, shown[tag.column])] for tag in tags],
        }

    def _draw_overlays(
        self, name: str, image: Image.Image, grids: dict[int, np.ndarray], tags: Sequence[Tag]
    ) -> None:
        for column, score, _ in tags:
            label = self.labels[column]
            overlay = overlay_heatmaps(image, grids[column][: self.together])
            words = ", ".join(self.maps[: self.together])
            overlay = add_caption(overlay, f"{label}  {score:.3f}  {words}")
            save_image(self.stage / OVERLAYS / name / f"{column:04d}_{_slug(label)}.jpg", overlay)

    def keep(self, notes: Iterator[Note], rank: int) -> int:
        """Write the notes of this rank's images, in row order; returns their number."""
        count = 0
        with atomic_write(self._notes(rank)) as file:
            for count, note in enumerate(notes, 1):  # noqa: B007
                file.write(json.dumps(note) + "\n")
        return count

    def finish(
        self,
        world_size: int,
        limit: int | None,
        skipped: Sequence[tuple[str, str]],
        *,
        title: str,
        facts: str,
    ) -> Iterator[Note]:
        """Join the notes of all ranks, yielding each; write `predictions.jsonl`, the page and its
        data.

        Only the first `limit` images are kept. `skipped` are the paths that could not be read,
        with the reason.
        """
        with contextlib.ExitStack() as stack:
            notes = self._joined(stack, world_size)
            lines = stack.enter_context(atomic_write(self.stage / PREDICTIONS, "wb"))
            kept = itertools.islice(notes, limit)
            for note in kept if self.tags_only else self._with_page(kept, title, facts):
                lines.write(json_line(prediction(note, self.labels)))
                yield note
            for path, reason in skipped:
                lines.write(json_line({"path": path, "error": reason}))
            for note in notes:  # of other ranks, beyond the limit
                self._remove(note)
        for rank in range(world_size):
            self._notes(rank).unlink()

    def _with_page(self, notes: Iterator[Note], title: str, facts: str) -> Iterator[Note]:
        """Pass on the notes; write the page and its data."""
        with atomic_write(self.stage / DATA, "wb") as data:
            colors = base64.b64encode(color_table().tobytes()).decode()
            maps = [[name, MEANINGS[name]] for name in self.maps]
            head = f'"labels": {json.dumps(self.labels)},\n"colors": "{colors}",\n'
            head += f'"maps": {json.dumps(maps)},\n"together": {self.together},\n'
            data.write(f'window.heatmaps = {{\n{head}"pictures": [\n'.encode())
            for note in notes:
                shown = {key: value for key, value in note.items() if key not in ("row", "best")}
                data.write(json.dumps(shown).encode() + b",\n")
                yield note
            data.write(b"]};\n")
        write_page(self.stage / PAGE, "heatmaps.html", title=title, facts=facts)

    def _joined(self, stack: contextlib.ExitStack, processes: int) -> Iterator[Note]:
        files = [stack.enter_context(open(self._notes(rank))) for rank in range(processes)]
        return heapq.merge(*(map(json.loads, file) for file in files), key=lambda note: note["row"])

    def _remove(self, note: Note) -> None:
        if self.tags_only:
            return
        name = note["name"]
        with writing(self.stage):
            for file in (f"images/{name}.jpg", f"thumbnails/{name}.jpg", f"grids/{name}.npz"):
                (self.stage / file).unlink()
            for file in (self.stage / OVERLAYS / name).glob("*"):
                file.unlink()

    def _notes(self, rank: int) -> Path:
        return self.stage / f"notes{rank}.jsonl"


def save_predictions(
    folder: Path, lines: Iterable[dict[str, Any]], unreadable: Sequence[tuple[str, str]]
) -> None:
    """Write `predictions.jsonl` alone, in place of a page and its pictures. `unreadable` are paths
    with the reason."""
    with (
        staged_folder(folder, replaces=PICTURES) as stage,
        atomic_write(stage / PREDICTIONS, "wb") as file,
    ):
        for line in lines:
            file.write(json_line(line))
        for path, reason in unreadable:
            file.write(json_line({"path": path, "error": reason}))


def prediction(note: Note, labels: Sequence[str]) -> dict[str, Any]:
    """The line of an image in `predictions.jsonl`."""
    predicted, missed = [], []
    for place, (column, score, verdict, *_) in enumerate(note["tags"]):
        item: dict[str, Any] = {"label": labels[column], "score": round(score, 6)}
        if "boxes" in note:
            box = np.array(note["boxes"][place]) * np.array(note["pixels"] * 2)
            item["box"] = box.round(1).tolist()
        if verdict == MISSED:
            missed.append(item)
        else:
            predicted.append(item if verdict == PREDICTED else {**item, "verdict": verdict})
    found = {"path": note["path"], "predicted": predicted}
    if "boxes" in note:
        found["map"] = note["map"]  # that the boxes are around
    if missed:
        found["missed"] = missed
    return {**found, "heatmaps": f"grids/{note['name']}.npz"} if "name" in note else found


def _packed(heatmap: np.ndarray) -> str:
    """The `levels` of a heatmap (H, W) as text, row by row, one byte for each patch."""
    return base64.b64encode(levels(heatmap).tobytes()).decode()


def json_line(value: Any) -> bytes:
    """One line of JSON; bytes of file names that are no UTF-8 become JSON's escapes."""
    return (json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def _slug(text: str) -> str:
    """Letters, digits and dashes of `text`, at most 60, so that it is safe in a file name."""
    return re.sub(r"[^A-Za-z0-9-]+", "_", text)[:60] or "_"
