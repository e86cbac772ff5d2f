"""Writes the data folder `data/<name>/` of a data set, for all data scripts.

A script reads official files into `AnnotatedImage`s; this module checks the images, splits off
validation images, writes the folder atomically, and prints a summary.
"""

import json
import os
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.common.console import print_line, progress_bar
from lib.common.errors import UserError
from lib.common.files import staged_folder, write_npy, write_text
from lib.data.dataset import read_image
from lib.data.folder import missing_images
from lib.data.lists import check_labels, check_path
from lib.data.preparation.image_files import similar_names
from lib.data.preparation.splits import indicators, split_off
from lib.data.sources.annotations import AnnotatedImage, shortened

MAX_LISTED = 10  # files in an error
MAX_LABELS = 100  # in the summary
NUM_EXAMPLES = 3  # images of own data in the summary
FILES = ("label.txt", "train.txt", "val.txt", "test.txt", "ignore.npy", "boxes.json")
Splits = Mapping[str, Sequence[AnnotatedImage]]


@dataclass(frozen=True)
class Options:
    """Flags of every data script."""

    save_dir: Path
    check_images: bool = False
    skip_missing: bool = False
    val: float = 0.0
    seed: int = 0
    test_share: float | None = None  # of train, where there is no test split
    own_data: bool = False  # groups stay together; difficult labels of train and val are unknown
    images_flags: str = "--data-dir"  # that may name another folder of the images


def write_data_folder(
    options: Options, labels: Sequence[str], splits: Splits, left_out: Mapping[str, int]
) -> None:
    """Write `splits` ("train", "test", and "val" if there is one) to `options.save_dir`.

    `left_out` counts the images that the script left out, by reason. Raises `UserError` for labels
    that the files cannot hold, for images that are missing or broken, and for empty splits.
    """
    check_labels(labels, lambda row: "label")
    _require_once(splits)
    bad = _bad_images(splits, options)
    left_out = Counter(left_out) + Counter(bad.values())
    reasons = [f"{count} ({reason})" for reason, count in left_out.items()]
    parts = {name: [one for one in splits[name] if one.path not in bad] for name in splits}
    for name, images in parts.items():
        if not images:
            raise UserError(
                f"{options.save_dir / name}.txt: no images are left for it; left out: "
                f"{', '.join(reasons) or 'none'}"
            )
    _add_splits(parts, labels, options)
    parts = {name: parts[name] for name in ("train", "val", "test") if name in parts}
    with staged_folder(options.save_dir, replaces=FILES) as stage:
        write_text(stage / "label.txt", "".join(f"{label}\n" for label in labels))
        column = {label: number for number, label in enumerate(labels)}
        for name, images in parts.items():
            write_text(stage / f"{name}.txt", "".join(_line(one, column) for one in images))
        difficult = indicators((one.difficult for one in parts.get("test", ())), labels)
        if difficult.nnz:
            write_npy(stage / "ignore.npy", difficult.toarray().astype(np.uint8))
        everything = [image for images in parts.values() for image in images]
        if any(image.objects for image in everything):
            write_text(stage / "boxes.json", _boxes(everything))
    _print_summary(labels, parts)
    for reason in reasons:
        print_line(f"left out: {reason}")
    if options.own_data:
        print_line("the first images of train:")
        for image in parts["train"][:NUM_EXAMPLES]:
            path, _, names = _line(image, column).strip().partition("\t")
            print_line(f"  {path}: {names.replace(',', ', ') or 'no labels'}")
    print_line(f"wrote {options.save_dir}")


def _add_splits(
    splits: dict[str, list[AnnotatedImage]], labels: Sequence[str], options: Options
) -> None:
    """Split off test images where there are none, and validation images where they are wanted."""
    shares = ("test", options.test_share, "--test-share"), ("val", options.val or None, "--val")
    for name, share, flag in shares:
        if share is not None and name not in splits:
            splits["train"], splits[name] = split_off(
                splits["train"], labels, share, options.seed, flag, grouped=options.own_data
            )
    if options.own_data:
        for image in (*splits["train"], *splits.get("val", ())):
            image.unknown, image.difficult = [*image.unknown, *image.difficult], []


def find_broken(paths: Sequence[str]) -> dict[str, str]:
    """Open every image, on all cores; returns why, for those that cannot be decoded."""
    with ProcessPoolExecutor() as pool:
        reasons = pool.map(_why_broken, paths, chunksize=32)
        found = progress_bar(zip(paths, reasons, strict=True), "check", "image", total=len(paths))
        return {path: reason for path, reason in found if reason}


def _why_broken(path: str) -> str | None:
    try:
        read_image(path)
    except UserError as error:
        return str(error)
    return None


def _require_once(splits: Splits) -> None:
    """Raise `UserError` for an image that is listed twice, in one split or in two."""
    split_of: dict[str, str] = {}
    for name, images in splits.items():
        for image in images:
            check_path(image.path)
            if image.path in split_of:
                where = sorted({name, split_of[image.path]})
                raise UserError(f"{image.path}: duplicate, in {' and '.join(where)}")
            split_of[image.path] = name


def _bad_images(splits: Splits, options: Options) -> dict[str, str]:
    """Paths to what is wrong with them: images that are missing, or do not open (--check-images).

    Raises `UserError` for them without --skip-missing.
    """
    paths = [image.path for images in splits.values() for image in images]
    bad = dict.fromkeys(missing_images(paths), "file is missing")
    if options.check_images:
        broken = find_broken([path for path in paths if path not in bad])
        for reason in broken.values():
            print_line(f"broken: {reason}")
        bad |= dict.fromkeys(broken, "file cannot be read")
    listed = shortened(list(bad), MAX_LISTED)
    if bad and options.skip_missing:
        print_line(f"missing or cannot be read: {listed}")
    elif bad:
        raise UserError(
            f"{len(bad)} of {len(paths)} images are missing or cannot be read: {listed}"
            f"{similar_names(list(bad))}; paths are relative to {os.getcwd()}; "
            f"{options.images_flags} may name another folder, --skip-missing leaves them out"
        )
    return bad


def _line(image: AnnotatedImage, column: Mapping[str, int]) -> str:
    """The line of an image: its labels in the order of their columns, unknown ones marked."""
    marks = dict.fromkeys(image.labels, "") | dict.fromkeys(image.unknown, "?")
    names = ",".join(f"{marks[label]}{label}" for label in sorted(marks, key=column.__getitem__))
    return f"{image.path}\t{names}\n"


def _boxes(images: Iterable[AnnotatedImage]) -> str:
    """The text of `boxes.json`, a line for each image."""
    lines = (
        f"{json.dumps(image.path, ensure_ascii=False)}: "
        f"{json.dumps(image.objects, ensure_ascii=False, allow_nan=False)}"
        for image in images
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def split_line(name: str, per_image: np.ndarray) -> str:
    """A split in one line, by its images' numbers of labels (N,)."""
    return (
        f"{name}: {len(per_image)} images, {per_image.mean():.2f} labels an image (at most "
        f"{per_image.max()}), {np.count_nonzero(per_image == 0)} without labels"
    )


def _print_summary(labels: Sequence[str], splits: Splits) -> None:
    counts = {}
    for name, images in splits.items():
        targets = indicators((image.labels for image in images), labels)
        counts[name] = targets.sum(axis=0)
        print_line(split_line(name, targets.sum(axis=1)))
    rows = zip(labels, *counts.values(), strict=True)
    positives = [f"{row[0]} {'/'.join(map(str, row[1:]))}" for row in rows]
    lines = {f"positives ({'/'.join(counts)})": positives}
    for name, column in counts.items():
        nothing = [label for label, count in zip(labels, column, strict=True) if not count]
        lines |= {f"without positives in {name}": nothing} if nothing else {}
    for what, found in lines.items():
        print_line(textwrap.fill(f"{what}: {shortened(found, MAX_LABELS)}", 100))
