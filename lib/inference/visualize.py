"""Tags the images of a split and draws where the model looked, in bounded memory.

Shapes: C labels, H x W patches.
"""

import collections
import contextlib
import itertools
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from lib.common.console import progress_bar
from lib.common.errors import UserError
from lib.common.files import staged_folder
from lib.data.bad_images import BadImages, Unreadable
from lib.data.folder import Split
from lib.data.workers import available_cores
from lib.experiment.predict import Prediction
from lib.inference import summary
from lib.inference.gallery import OVERLAYS, PICTURES, Gallery, Note
from lib.inference.tags import Selection, Tag
from lib.predictor import Predictor


class Shown(NamedTuple):
    """What was drawn: the number of images, the verdicts on their labels, the unreadable files."""

    pictures: int
    verdicts: collections.Counter[str]
    unreadable: list[Unreadable]


def visualize(
    predictor: Predictor,
    split: Split,
    selection: Selection,
    *,
    limit: int | None = None,
    overlays: bool = False,
    boxes: bool = False,
    tags_only: bool = False,
    save: bool = True,
    tell: Callable[[Note], None] | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
) -> Shown:
    """Draw the selected images of `split` into the experiment's `visualization/`, or with
    `tags_only` write their predictions alone; an earlier page and its pictures are removed then.

    Each rank draws its own, the main process the page; unreadable files are left out. `tell` gets
    the note of each image, in the order of the split. Without `save` the folder is left as it is.
    Raises `UserError` if there is nothing to save.
    """
    world, target = predictor.world, predictor.experiment.visualization
    bad_images = BadImages(limit=None)
    with contextlib.ExitStack() as stack:
        replaced: contextlib.AbstractContextManager[Path]
        if save:
            replaced = staged_folder(target, replaces=PICTURES if tags_only else [OVERLAYS])
        else:
            replaced = scratch_folder(predictor.experiment.path if world.world_size > 1 else None)
        gallery = Gallery(
            world.broadcast_from_main(lambda: stack.enter_context(replaced)),
            predictor.labels,
            predictor.config.exif,
            _maps_of(predictor),
            together=len(predictor.maps),
            overlays=overlays,
            boxes=boxes,
            tags_only=tags_only,
        )
        stream = predictor.stream(split, bad_images, batch_size, workers)
        total = -(-len(split) // world.world_size)
        rows = progress_bar(_rows(stream, predictor), "draw", "image", total=total)
        wanted = itertools.islice(_wanted(rows, split, selection), limit)
        drawn = in_threads(lambda work: gallery.draw(*work), wanted, available_cores())
        kept = gallery.keep(drawn, world.rank)
        bad_images.merge_ranks(world)
        unreadable = sorted(Unreadable(row, line) for line, row in bad_images.reasons.items())
        pictures = min(world.sum(kept)[0], limit or len(split))
        verdicts: collections.Counter[str] = collections.Counter()
        with world.raise_on_all_ranks():
            if save and not pictures:
                raise UserError(summary.nothing(split, selection, unreadable))
            if world.is_main_process:
                notes = gallery.finish(
                    world.world_size,
                    limit,
                    [(split.paths[row], reason) for row, reason in unreadable],
                    title=f"Heatmaps of {predictor.experiment.path}",
                    facts=summary.facts(split, selection, pictures),
                )
                for note in notes:
                    verdicts.update(tag[2] for tag in note["tags"])
                    if tell:
                        tell(note)
    return Shown(pictures, verdicts, unreadable)


def _maps_of(predictor: Predictor) -> list[str]:
    """The maps of the head, those that were asked for first."""
    return sorted(predictor.model.maps, key=lambda name: name not in predictor.maps)


def _rows(
    stream: Iterator[Prediction], predictor: Predictor
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Row, scores (C,) and heatmaps (M, C, H, W) of each image, of the maps `_maps_of`."""
    for prediction in stream:
        output = prediction.outputs[0]
        maps = [output.heatmaps(name).unflatten(-1, predictor.grid) for name in _maps_of(predictor)]
        grids = torch.stack(maps, dim=1).cpu().numpy()
        yield from zip(prediction.rows.tolist(), prediction.scores[0], grids, strict=True)


def _wanted(
    rows: Iterator[tuple[int, np.ndarray, np.ndarray]], split: Split, selection: Selection
) -> Iterator[tuple[int, str, np.ndarray, np.ndarray, list[Tag]]]:
    """What `Gallery.draw` takes, of the pictures that are wanted."""
    for row, scores, grids in rows:
        tags = selection.tags(scores, split.targets[row], split.ignore[row])
        if selection.wants(tags):
            yield row, split.paths[row], scores, grids, tags


@contextlib.contextmanager
def scratch_folder(shared: Path | None) -> Iterator[Path]:
    """A folder for this run alone; inside `shared`, if ranks on other machines must reach it."""
    if shared:
        shared.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=shared, prefix=".notes.") as folder:
        yield Path(folder)


Work = TypeVar("Work")
Result = TypeVar("Result")


def in_threads(
    function: Callable[[Work], Result], items: Iterator[Work], threads: int
) -> Iterator[Result]:
    """`function` of each item, in their order; at most twice as many as `threads` are held."""
    waiting: collections.deque[Future[Result]] = collections.deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) == 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
