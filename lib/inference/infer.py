"""`infer.py`: which images to tag, by which model, and what is printed and written.

Shapes: C labels.
"""

import collections
import contextlib
import hashlib
from argparse import Namespace
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import torch

from lib.common.console import print_line, print_note, stdout_is_closed, whole_on_stdout
from lib.common.errors import UserError
from lib.common.files import file_digest, staged_folder
from lib.data.bad_images import BadImages, Unreadable
from lib.data.folder import DataFolder
from lib.data.pictures import images_in, other_files_in
from lib.data.split import Split
from lib.inference import summary
from lib.inference.done import TAGS, DoneImages
from lib.inference.gallery import (
    OVERLAYS,
    PAGE,
    PICTURES,
    PREDICTIONS,
    Gallery,
    ResultsWriter,
)
from lib.inference.sidecars import write_sidecar
from lib.inference.tag_formats import HEADERS, TEXTS
from lib.inference.tagging import tag_images
from lib.inference.tags import Selection, TaggedImage
from lib.predictor import Predictor
from lib.runtime.world import World


def infer(flags: Namespace, world: World) -> None:
    """Tag --images, or the test split of the experiment's data, by the flags of infer.py.

    Writes the page or, with --tags-only, predictions.jsonl alone into the experiment's
    `visualization/`; with --format tags are printed, or written beside the images. Raises
    `UserError` if there is nothing to show.
    """
    with world.raise_on_all_ranks():
        predictor = Predictor(
            flags.exp_dir,
            world=world,
            map=flags.map,
            precision=flags.precision,
            batch_size=flags.batch_size,
            workers=flags.workers,
        )
        cutoffs = predictor.cutoffs(flags.threshold)
        selection = Selection(predictor.labels, cutoffs, flags.top, flags.labels, flags.only_errors)
        others: Collection[Path] = ()
        if flags.images:
            paths, others = find_images(flags.images)
            split = unlabelled(paths, len(predictor.labels))
        else:
            data = DataFolder.open(predictor.config.data)
            data.require_labels(predictor.labels, str(flags.exp_dir))
    if not flags.images:
        split = world.once_per_machine(lambda: data.split("test"))

    # with a --format, nothing but tags is on stdout
    print_info = print_note if flags.format else print_line
    done = None
    if flags.skip_done:
        model, output = _digest(predictor), flags.format or TAGS
        done = DoneImages(world, predictor.experiment.path, split.paths, model, output)
        print_info(f"skipped: {done.count} images, done by {done.file}")
        split = unlabelled([split.paths[row] for row in done.missing], len(predictor.labels))
    lines = _tag(predictor, split, selection, flags, done)
    for line in [*summary.passed_over(others), *lines]:
        print_info(line)
    if flags.precision:
        print_info(f"precision: {predictor.precision}")
    folder = predictor.experiment.visualization
    if not flags.format:
        what, file = ("predictions", PREDICTIONS) if flags.tags_only else ("heatmaps", PAGE)
        print_info(f"{what}: {folder / file}")


def find_images(names: Sequence[str]) -> tuple[list[str], set[Path]]:
    """The image files of `names`, each once, and the other files of their folders, but hidden ones.

    Files are in the order of `names`, those inside a folder sorted. Raises `UserError` for a name
    that leads to no image.
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
                held = " ".join(summary.passed_over(passed_over)) or "it is empty"
                raise UserError(f"--images {name}: no image in this folder; {held}")
            found += [file.as_posix() for file in inside]
            others |= passed_over
        elif path.is_file():
            found.append(name)
        else:
            raise UserError(f"--images {name}: no such file or folder")
    return list(dict.fromkeys(found)), others


def unlabelled(paths: Sequence[str], num_labels: int) -> Split:
    """A split of images without known labels."""
    return Split.without_labels("images", paths, num_labels)


def _tag(
    predictor: Predictor,
    split: Split,
    selection: Selection,
    flags: Namespace,
    done: DoneImages | None,
) -> list[str]:
    """Tag the images of `split`, and print and write what the flags ask for; gives lines about what
    was found."""
    world, main, total = predictor.world, predictor.world.is_main_process, len(split)
    split = split if selection.filters or done else split.head(flags.limit)
    bad_images, images, verdicts = BadImages(limit=None), 0, collections.Counter[str]()
    show, foreign = _printer(selection, flags.format, done), list[str]()
    with contextlib.ExitStack() as stack:
        gallery = writer = None
        if not flags.format:
            folder = predictor.experiment.visualization
            staged = staged_folder(folder, replaces=PICTURES if flags.tags_only else [OVERLAYS])
            stage = world.broadcast_from_main(lambda: stack.enter_context(staged))
            gallery = None if flags.tags_only else _gallery(predictor, stage, flags)
            writer = ResultsWriter(stack, stage, gallery) if main else None
        for tagged in tag_images(predictor, split, selection, bad_images, gallery, flags.limit):
            images += len(tagged)
            verdicts.update(tag.verdict for image in tagged for tag in image.tags)
            with world.raise_on_all_ranks():
                if flags.format == "xmp":
                    for image in tagged if main else ():
                        if not write_sidecar(image):
                            foreign.append(image.path)
                        elif done:
                            done.add([image])
                    continue
                with whole_on_stdout():  # or a row whose record fails would be there twice
                    if flags.images and tagged:
                        show(tagged)
                    if main and done:
                        done.add(tagged)
                if writer and not done:
                    for image in tagged:
                        writer.add(image)
        bad_images.merge_ranks(world)
        unreadable = sorted(Unreadable(row, reason) for reason, row in bad_images.reasons.items())
        with world.raise_on_all_ranks():
            if not (images or (done and done.count)):
                raise UserError(summary.nothing(split, selection, unreadable))
            if writer:
                for line in done.lines() if done else ():
                    writer.add_line(line)
                for row, reason in unreadable:
                    writer.add_line({"path": split.paths[row], "error": reason})
                title = f"Heatmaps of {predictor.experiment.path}"
                writer.finish(title, summary.facts(split, selection, images))
    listed = not flags.format
    return list(summary.closing(images, total, verdicts, unreadable, foreign, listed=listed))


def _gallery(predictor: Predictor, stage: Path, flags: Namespace) -> Gallery:
    """Draws the maps of the head, those that were asked for first."""
    return Gallery(
        stage,
        predictor.labels,
        predictor.config.exif,
        sorted(predictor.model.maps, key=lambda name: name not in predictor.maps),
        together=len(predictor.maps),
        overlays=bool(flags.images) if flags.overlays is None else flags.overlays,
        boxes=flags.boxes,
    )


def _printer(
    selection: Selection, format: str | None, done: DoneImages | None
) -> Callable[[Sequence[TaggedImage]], None]:
    """Prints the tags of images for people, or in a `format`. A header comes before the first row,
    but not where rows are added."""
    header = [] if done and not done.is_new else [*HEADERS.get(format or "", ())]
    text_of = TEXTS.get(format or "", lambda image: summary.table(image, selection.cutoffs))

    def show(images: Sequence[TaggedImage]) -> None:
        # at once, as each print draws the progress bar again
        print_line("\n".join([*header, *map(text_of, images)]))
        header.clear()
        if done and format and stdout_is_closed():
            path = images[0].path
            raise UserError(f"standard output: closed before {path}; run this again to continue")

    return show


def _digest(predictor: Predictor) -> str:
    """A hash of all that the scores and their names depend on."""
    vectors = getattr(predictor.model.head, "label_embeddings", torch.empty(0))
    content = hashlib.sha256(vectors.cpu().numpy().tobytes())
    weights = file_digest(predictor.experiment.best_checkpoint)
    content.update(repr((weights, predictor.labels, predictor.config)).encode())
    return content.hexdigest()[:16]
