"""`infer.py`: which images to tag, by which model, and what is told of them.

Shapes: C labels.
"""

import collections
import functools
import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from lib.common.console import print_line, print_note, stdout_is_closed
from lib.common.errors import UserError
from lib.common.files import file_digest
from lib.data.folder import DataFolder, Split
from lib.data.pictures import images_in, other_files_in
from lib.export.engine import use_onnxruntime
from lib.inference import summary
from lib.inference.done import TAGS, Done, draw_in_parts
from lib.inference.gallery import PAGE, PREDICTIONS, Note, prediction, save_predictions
from lib.inference.tag_formats import FORMATS, HEADERS
from lib.inference.tags import Selection, columns_of
from lib.inference.visualize import visualize
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
    skip_done: bool = False,
    map: str | None = None,
    precision: str | None = None,
    engine: str | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
) -> Path:
    """Tag `images`, or the test split of an experiment's data; returns the path of the page, or
    with `tags_only` of the predictions. With a `format` of `FORMATS`, tags alone are given in it,
    and nothing is written to the experiment; the path is then that of the experiment. `skip_done`
    leaves out the images that earlier runs with it have tagged, see `Done`.

    None stands for what the experiment was trained with, or for no limit; for `threshold` see
    `Predictor.cutoffs`, for `map` and `precision` `Predictor`, for `engine` `use_onnxruntime`.
    Overlays are written for `images`, unless `overlays` says otherwise; `boxes` are found around
    the heatmaps. Raises `UserError` if there is nothing to show.
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
        if skip_done:
            _require_all_tags(images, labels, alone)
        onnx = engine == "onnxruntime"
        if onnx and precision not in (None, "float32"):
            raise UserError(f"--engine {engine}: computes in float32; leave out --precision")
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

    if onnx:
        use_onnxruntime(predictor)
    say = print_note if format else print_line  # where tags are on stdout, nothing else is
    done = None
    if skip_done:
        output = format or TAGS
        done = Done(world, predictor.experiment.path, split.paths, _digest(predictor), output)
        say(f"skipped: {done.count} images, done by {done.file}")
        split = unlabelled([split.paths[row] for row in done.missing], len(names))
    draw = functools.partial(
        visualize,
        predictor,
        selection=selection,
        overlays=bool(images) and alone is None if overlays is None else overlays,
        boxes=boxes,
        tags_only=alone is not None,
        save=not (format or done),
        tell=tell_of(predictor, selection, format, done) if images else None,
        batch_size=batch_size,
        workers=workers,
    )
    if done:
        part = split
        shown = draw_in_parts(
            lambda rows, limit: draw(split.rows(rows), limit=limit), len(split), limit, world
        )
    else:
        part = split if selection.filters else split.head(limit)
        shown = draw(part, limit=limit)
    if not (shown.pictures or (done and done.count)):
        raise UserError(summary.nothing(part, selection, shown.unreadable))
    folder = predictor.experiment.visualization
    if done and not format and world.is_main_process:
        unreadable = [(split.paths[row], reason) for row, reason in shown.unreadable]
        save_predictions(folder, done.lines(), unreadable)
    if line := summary.passed_over(passed_over):
        say(line)
    for line in summary.closing(
        shown.pictures, len(split), shown.verdicts, shown.unreadable, listed=format is None
    ):
        say(line)
    if precision or engine:
        say(f"precision: {predictor.precision}")
    if format:
        return predictor.experiment.path
    file = folder / (PREDICTIONS if alone else PAGE)
    say(f"{'predictions' if alone else 'heatmaps'}: {file}")
    return file


def _require_all_tags(
    images: Sequence[str] | None, labels: Sequence[str] | None, alone: str | None
) -> None:
    if not images:
        raise UserError("--skip-done: belongs to --images; pass both")
    if labels:
        raise UserError("--labels: --skip-done records all labels of an image; leave one out")
    if not alone:
        raise UserError("--skip-done: keeps no heatmaps; pass --tags-only or --format with it")


def _digest(predictor: Predictor) -> str:
    """A hash of all that the scores and their names depend on."""
    vectors = getattr(predictor.model.head, "label_embeddings", torch.empty(0))
    content = hashlib.sha256(vectors.cpu().numpy().tobytes())
    weights = file_digest(predictor.experiment.best_checkpoint)
    content.update(repr((weights, predictor.labels, predictor.config)).encode())
    return content.hexdigest()[:16]


def tell_of(
    predictor: Predictor, selection: Selection, format: str | None, done: Done | None
) -> Callable[[Note], None]:
    """What happens to the tags of each image: they are printed for people, or given in a `format`,
    and recorded as `done`. A header comes before the first row, but not where rows are added."""
    labels = predictor.labels
    headers = [] if done and not done.is_new else [HEADERS[format]] if format in HEADERS else []

    def tell(note: Note) -> None:
        while headers:
            print_line(headers.pop())
        if format:
            FORMATS[format](note, labels)
        else:
            print_line(summary.table(note, labels, selection.cutoffs))
        if done:
            if format and stdout_is_closed():
                raise UserError(
                    f"standard output was closed before {note['path']}; run this again to go on"
                )
            done.add(note["path"], prediction(note, labels)["predicted"])

    return tell
