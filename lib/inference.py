"""Heatmaps of an experiment on pictures: overlays, raw grids and the page, in bounded memory.

Shapes: C labels, H x W patches.
"""

import contextlib
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from lib.distributed import World
from lib.engine import Prediction
from lib.errors import UserError
from lib.files import staged_folder, write_npz
from lib.manifest import DataFolder, Split
from lib.predictor import Predictor
from lib.progress import bar, say
from lib.transforms import read_image
from lib.tuning import Cutoffs
from lib.visualize import (
    Overlay,
    Picture,
    add_caption,
    display_size,
    overlay_heatmap,
    save_image,
    verdict,
    write_page,
)

IMAGE_ENDINGS = frozenset(".jpg .jpeg .png .webp .bmp .gif .tif .tiff .avif .jp2 .ppm .pgm".split())


def find_images(names: Sequence[str]) -> list[str]:
    """The image files of `names`: files as they are, folders searched through, in sorted order."""
    found: list[str] = []
    for name in names:
        if not name.strip():
            raise UserError("--images: an empty path")
        path = Path(name)
        if path.is_dir():
            inside = sorted(
                file for file in path.rglob("*") if file.suffix.lower() in IMAGE_ENDINGS
            )
            if not inside:
                raise UserError(f"--images {name}: no image in this folder")
            found += [file.as_posix() for file in inside if file.is_file()]
        elif path.is_file():
            found.append(name)
        else:
            raise UserError(f"--images {name}: no such file or folder")
    return found


def unlabelled(paths: Sequence[str], num_labels: int) -> Split:
    """A split of pictures of which nothing is known."""
    shape = (len(paths), num_labels)
    return Split("images", list(paths), np.zeros(shape, np.uint8), np.ones(shape, bool))


def infer(
    exp_dir: str | Path,
    world: World,
    *,
    images: Sequence[str] | None = None,
    limit: int | None = None,
    threshold: float | str | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
) -> Path:
    """Draw an experiment's heatmaps of `images`, or of its data's test split; gives the page.

    None stands for what the experiment was trained with, or for no limit; for `threshold` see
    `Predictor.cutoffs`.
    """
    with world.together():
        predictor = Predictor(exp_dir, world=world)
        config, labels = predictor.config, predictor.labels
        cutoffs = predictor.cutoffs(threshold)
        if images:
            split = unlabelled(find_images(images), len(labels))
        else:
            data = DataFolder.open(config.data)
            data.require_labels(labels, str(exp_dir))
            split = data.split("test")
    page = visualize(
        predictor,
        split.head(limit),
        cutoffs=cutoffs,
        batch_size=batch_size,
        workers=workers,
    )
    say(f"heatmaps: {page}")
    return page


def visualize(
    predictor: Predictor,
    split: Split,
    *,
    cutoffs: Cutoffs,
    batch_size: int | None = None,
    workers: int | None = None,
) -> Path:
    """Draw every image of `split` into the experiment's `visualization/`; gives its `index.html`.

    An overlay is drawn for each label that reaches its cut-off or that the split names; entries
    that the split ignores count as not known. Each process draws its images, the first one the
    page.
    """
    world, target = predictor.world, predictor.experiment.visualization
    with contextlib.ExitStack() as stack:
        stage = world.from_first(lambda: stack.enter_context(staged_folder(target)))
        stream = _rows(predictor.stream(split, batch_size, workers), predictor.grid)
        total = -(-len(split) // world.size)
        drawn = [
            (row, _draw(stage, predictor.labels, split, row, scores, grids, cutoffs.values))
            for row, scores, grids in bar(stream, "draw", "image", total=total)
        ]
        by_row = dict(itertools.chain.from_iterable(world.gather(drawn)))
        pictures = [by_row[row] for row in sorted(by_row)]
        known = "" if split.ignore.all() else ", or named by the ground truth"
        if world.is_first:
            write_page(
                stage,
                pictures,
                title=f"Heatmaps of {predictor.experiment.path}",
                facts=f"{len(pictures)} images; labels from {cutoffs.words}{known}",
            )
    return target / "index.html"


def _rows(
    stream: Iterator[Prediction], grid: tuple[int, int]
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Row, scores (C,) and heatmaps (C, H, W) of each image."""
    for prediction in stream:
        grids = prediction.attention[0].unflatten(-1, grid).cpu().numpy()
        yield from zip(prediction.index.tolist(), prediction.scores[0], grids, strict=True)


def _draw(
    stage: Path,
    labels: Sequence[str],
    split: Split,
    row: int,
    scores: np.ndarray,
    grids: np.ndarray,
    cutoffs: np.ndarray,
) -> Picture:
    path = split.paths[row]
    name = f"{row:05d}_{_slug(os.path.splitext(os.path.basename(path))[0])}"
    write_npz(
        stage / "grids" / f"{name}.npz", attention=grids, scores=scores, labels=np.array(labels)
    )
    image = display_size(read_image(path))
    picture = Picture(path, f"images/{name}/image.jpg")
    save_image(stage / picture.file, image)
    present = (split.targets[row] == 1) & ~split.ignore[row]
    for column in np.argsort(-scores, kind="stable"):
        predicted = bool(scores[column] >= cutoffs[column])
        if not (predicted or present[column]):
            continue
        label, score = labels[column], float(scores[column])
        truth = None if split.ignore[row, column] else bool(present[column])
        file = f"images/{name}/{column:04d}_{_slug(label)}.jpg"
        drawn = add_caption(overlay_heatmap(image, grids[column]), f"{label}  {score:.3f}")
        save_image(stage / file, drawn)
        picture.overlays.append(Overlay(label, score, verdict(predicted, truth), file))
    return picture


def _slug(text: str) -> str:
    """Letters, digits and dashes of `text`, at most 60, so that it is safe in a file name."""
    return re.sub(r"[^A-Za-z0-9-]+", "_", text)[:60] or "_"
