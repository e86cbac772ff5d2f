"""Tags images with a trained model and draws where it looked, in bounded memory.

Shapes: C labels, H x W patches.
"""

import collections
import contextlib
import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from lib.common.console import print_line, print_note, progress_bar
from lib.common.errors import UserError
from lib.common.files import staged_folder
from lib.data.bad_images import BadImages, Unreadable
from lib.data.folder import DataFolder, Split
from lib.data.pictures import images_in, other_files_in
from lib.data.workers import available_cores
from lib.experiment.predict import Prediction
from lib.inference import summary
from lib.inference.gallery import OVERLAYS, PAGE, PICTURES, PREDICTIONS, Gallery, Note
from lib.inference.tag_formats import FORMATS, HEADERS
from lib.inference.tags import Selection, Tag, columns_of
from lib.predictor import Predictor
from lib.runtime.world import World


class FoundImages(NamedTuple):
    """Image files, each once, and how many other files their folders hold, by ending."""

    paths: list[str]
    passed_over: collections.Counter[str]


def find_images(names: Sequence[str]) -> FoundImages:
    """The image files of `names`: files in their order, those inside folders sorted.

    Hidden files are not counted as passed over. Raises `UserError` for a name that leads to no
    image.
    """
    found: list[str] = []
    others: set[Path] = set()
    for name in names:
        if not name.strip():
            raise UserError("--images: an empty path")
        path = Path(name)
        if path.is_dir():
            inside, passed_over = images_in(path), set(other_files_in(path))
            if not inside:
                held = summary.passed_over(count_endings(passed_over)) or "it is empty"
                raise UserError(f"--images {name}: no image in this folder; {held}")
            found += [file.as_posix() for file in inside]
            others |= passed_over
        elif path.is_file():
            found.append(name)
        else:
            raise UserError(f"--images {name}: no such file or folder")
    return FoundImages(list(dict.fromkeys(found)), count_endings(others))


def count_endings(files: Iterable[Path]) -> collections.Counter[str]:
    """How many of `files` have each ending, in lower case; "" for those without one."""
    return collections.Counter(file.suffix.lower() for file in files)


def unlabelled(paths: Sequence[str], num_labels: int) -> Split:
    """A split of images without known labels; its arrays take no memory."""
    shape = (len(paths), num_labels)
    targets, ignore = np.broadcast_to(np.uint8(0), shape), np.broadcast_to(True, shape)
    return Split("images", list(paths), targets, ignore)


def infer(
    exp_dir: str | Path,
    world: World,
    *,
    images: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    only_errors: bool = False,
    limit: int | None = None,
    top: int | None = None,
    threshold: float | str | None = None,
    overlays: bool | None = None,
    boxes: bool = False,
    tags_only: bool = False,
    format: str | None = None,
    map: str | None = None,
    precision: str | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
) -> Path:
    """Tag `images`, or the test split of an experiment's data; returns the path of the page, or
    with `tags_only` of the predictions. With a `format` of `FORMATS`, tags alone are given in it,
    and nothing is written to the experiment; the path is then that of the experiment.

    None stands for what the experiment was trained with, or for no limit; for `threshold` see
    `Predictor.cutoffs`, for `map` and `precision` `Predictor`. Overlays are written
    for `images`, unless `overlays` says otherwise; `boxes` are found around the heatmaps. Raises
    `UserError` if there is nothing to show.
    """
    with world.raise_on_all_ranks():
        if images and only_errors:
            raise UserError("--only-errors: the labels of --images are unknown; leave one out")
        if format and not images:
            raise UserError(f"--format {format}: belongs to --images; pass both")
        alone = f"--format {format}" if format else "--tags-only" if tags_only else None
        if alone and (overlays or boxes or map):
            flag = "--overlays" if overlays else "--boxes" if boxes else "--map"
            raise UserError(f"{flag}: {alone} has no heatmaps; leave one out")
        predictor = Predictor(exp_dir, world=world, map=map, precision=precision)
        config, names = predictor.config, predictor.labels
        selection = Selection(
            predictor.cutoffs(threshold),
            top=top,
            columns=columns_of(labels, names) if labels else None,
            only_errors=only_errors,
        )
        passed_over: collections.Counter[str] = collections.Counter()
        if images:
            paths, passed_over = find_images(images)
            split = unlabelled(paths, len(names))
        else:
            data = DataFolder.open(config.data)
            data.require_labels(names, str(exp_dir))
            split = data.split("test")

    tags_only = alone is not None
    say = print_note if format else print_line  # where tags are on stdout, nothing else is
    if format in HEADERS:
        print_line(HEADERS[format])
    shown = visualize(
        predictor,
        split if selection.filters else split.head(limit),
        selection,
        limit=limit,
        overlays=bool(images) and not tags_only if overlays is None else overlays,
        boxes=boxes,
        tags_only=tags_only,
        save=format is None,
        tell=tell_of(predictor, selection, format) if images else None,
        batch_size=batch_size,
        workers=workers,
    )
    if line := summary.passed_over(passed_over):
        say(line)
    for line in summary.closing(shown.pictures, len(split), shown.verdicts, shown.unreadable):
        say(line)
    if precision:
        say(f"precision: {predictor.precision}")
    if format:
        return predictor.experiment.path
    say(f"{'predictions' if tags_only else 'heatmaps'}: {shown.file}")
    return shown.file


def tell_of(
    predictor: Predictor, selection: Selection, format: str | None
) -> Callable[[Note], None]:
    """What is done with the tags of each image: printed for people, or given in a `format`."""
    if format:
        return lambda note: FORMATS[format](note, predictor.labels)
    return lambda note: print_line(summary.table(note, predictor.labels, selection.cutoffs))


class Shown(NamedTuple):
    """What was drawn: the page, or the predictions without one, the number of images, their
    verdicts, and the unreadable files."""

    file: Path
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
    """
    world, target = predictor.world, predictor.experiment.visualization
    bad_images = BadImages(limit=None)
    with contextlib.ExitStack() as stack:
        replaced: contextlib.AbstractContextManager[Path]
        if save:
            replaced = staged_folder(target, replaces=PICTURES if tags_only else [OVERLAYS])
        else:
            replaced = scratch_folder()
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
            if not pictures:
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
    file = target / (PREDICTIONS if tags_only else PAGE)
    return Shown(file, pictures, verdicts, unreadable)


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
def scratch_folder() -> Iterator[Path]:
    """A folder for this run alone."""
    with tempfile.TemporaryDirectory() as folder:
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
