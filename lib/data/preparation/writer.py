"""Writes the data folder `data/<name>/` of a data set, for all data scripts.

A script reads official files into `AnnotatedImage`s; this module checks the images, splits off
validation images, writes the folder atomically, and prints a summary.

Shapes: N images of a split, C labels.
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
from lib.data.sources.annotations import AnnotatedImage

MAX_LISTED = 10  # files in an error
MAX_LABELS = 100  # in the summary
FILES = ("label.txt", "train.txt", "val.txt", "test.txt", "ignore.npy", "boxes.json")


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
    images_remedy: str = "pass --data-dir with their folder"  # where no image is found


def write_data_folder(
    options: Options,
    labels: Sequence[str],
    splits: Mapping[str, Sequence[AnnotatedImage]],
    left_out: Mapping[str, int],
    examples: int = 0,
) -> None:
    """Write `splits` ("train", "test", and "val" if there is one) to `options.save_dir`.

    `left_out` counts the images that the script left out, by reason; the summary shows the first
    `examples` lines of train.txt. Raises `UserError` for labels that the files cannot hold, for
    images that are missing or broken, and for empty splits.
    """
    check_labels(labels, lambda row: "label")
    _require_once(splits)
    left_out = dict(left_out)
    parts = _with_images(splits, options, left_out)
    for name, samples in parts.items():
        if not samples:
            reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count)
            raise UserError(
                f"{options.save_dir / name}.txt: no images are left for it (left out: "
                f"{reasons or 'none'})"
            )
    _add_splits(parts, labels, options)
    parts = {name: parts[name] for name in ("train", "val", "test") if name in parts}
    with staged_folder(options.save_dir, replaces=FILES) as stage:
        write_text(stage / "label.txt", "".join(f"{label}\n" for label in labels))
        for name, samples in parts.items():
            write_text(stage / f"{name}.txt", "".join(_line(one, labels) for one in samples))
        if any(sample.difficult for sample in parts.get("test", ())):
            marks = indicators((one.difficult for one in parts["test"]), labels)
            write_npy(stage / "ignore.npy", marks)
        everything = [sample for samples in parts.values() for sample in samples]
        if any(sample.objects for sample in everything):
            write_text(stage / "boxes.json", _boxes(everything))
    _print_summary(labels, parts, left_out)
    if examples:
        print_line("the first images of train:")
    for sample in parts["train"][:examples]:
        path, _, names = _line(sample, labels).strip().partition("\t")
        print_line(f"  {path}: {names.replace(',', ', ') or 'no labels'}")
    print_line(f"wrote {options.save_dir}")


def _add_splits(
    splits: dict[str, list[AnnotatedImage]], labels: Sequence[str], options: Options
) -> None:
    """Split off test images where there are none, and validation images where they are wanted."""
    shares = [("val", options.val, "--val")] if options.val else []
    if "test" not in splits and options.test_share is not None:
        shares.insert(0, ("test", options.test_share, "--test-share"))
    for name, share, flag in shares:
        splits["train"], splits[name] = split_off(
            splits["train"], labels, share, options.seed, flag, grouped=options.own_data
        )
    if options.own_data:
        for sample in (*splits["train"], *splits.get("val", ())):
            sample.unknown, sample.difficult = {*sample.unknown, *sample.difficult}, ()


def find_broken(paths: Sequence[str]) -> dict[str, str]:
    """Open every image, on all cores; returns why, for those that cannot be decoded."""
    broken = {}
    with ProcessPoolExecutor() as pool:
        found = pool.map(_reason, paths, chunksize=32)
        for path, reason in progress_bar(
            zip(paths, found, strict=True), "check", "image", total=len(paths)
        ):
            if reason:
                broken[path] = reason
    return broken


def _reason(path: str) -> str | None:
    try:
        read_image(path)
    except UserError as error:
        return str(error)
    return None


def _require_once(splits: Mapping[str, Sequence[AnnotatedImage]]) -> None:
    """Raise `UserError` for an image that is listed twice, in one split or in two."""
    split_of: dict[str, str] = {}
    for name, samples in splits.items():
        for sample in samples:
            check_path(sample.path)
            if sample.path in split_of:
                where = sorted({name, split_of[sample.path]})
                raise UserError(f"{sample.path}: duplicate, in {' and '.join(where)}")
            split_of[sample.path] = name


def _with_images(
    splits: Mapping[str, Sequence[AnnotatedImage]], options: Options, left_out: dict[str, int]
) -> dict[str, list[AnnotatedImage]]:
    """The samples whose image exists (and opens, with --check-images); counts the others, or raises
    `UserError` for them."""
    paths = [sample.path for samples in splits.values() for sample in samples]
    bad = dict.fromkeys(missing_images(paths), "file is missing")
    if options.check_images:
        broken = find_broken([path for path in paths if path not in bad])
        for reason in broken.values():
            print_line(f"broken: {reason}")
        bad |= dict.fromkeys(broken, "file cannot be read")
    if bad and not options.skip_missing:
        more = f", and {len(bad) - MAX_LISTED} more" if len(bad) > MAX_LISTED else ""
        gone = [name for name in ("test", "val") if _all_bad(splits.get(name, ()), bad)]
        if gone and len(bad) < len(paths) and options.own_data:
            remedy = f"pass --{gone[0]}-images with the folder of the {gone[0]} images"
        elif len(bad) < len(paths):
            remedy = "pass --skip-missing to leave them out"
        else:
            remedy = options.images_remedy
        raise UserError(
            f"{len(bad)} of {len(paths)} images are missing or cannot be read: "
            f"{', '.join(list(bad)[:MAX_LISTED])}{more}{similar_names(list(bad))}; paths are "
            f"relative to {os.getcwd()}; {remedy}"
        )
    for reason, count in Counter(bad.values()).items():
        left_out[reason] = left_out.get(reason, 0) + count
        found = [path for path, one in bad.items() if one == reason]
        print_line(f"{reason}: {', '.join(found[:MAX_LISTED])}{' ...' * (count > MAX_LISTED)}")
    return {
        name: [sample for sample in samples if sample.path not in bad]
        for name, samples in splits.items()
    }


def _all_bad(samples: Sequence[AnnotatedImage], bad: Mapping[str, str]) -> bool:
    return bool(samples) and all(sample.path in bad for sample in samples)


def _line(sample: AnnotatedImage, labels: Sequence[str]) -> str:
    """The line of a sample: its labels in column order, unknown ones marked."""
    present, unknown = set(sample.labels), set(sample.unknown)
    names = [
        f"?{label}" if label in unknown else label
        for label in labels
        if label in present or label in unknown
    ]
    return f"{sample.path}\t{','.join(names)}\n"


def _boxes(samples: Iterable[AnnotatedImage]) -> str:
    """The text of `boxes.json`, a line for each image."""
    lines = (
        f"{json.dumps(sample.path, ensure_ascii=False)}: "
        f"{json.dumps(sample.objects, ensure_ascii=False, allow_nan=False)}"
        for sample in samples
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _listed(texts: Sequence[str]) -> str:
    more = f", and {len(texts) - MAX_LABELS} more" if len(texts) > MAX_LABELS else ""
    return ", ".join(texts[:MAX_LABELS]) + more


def _print_summary(
    labels: Sequence[str],
    splits: Mapping[str, Sequence[AnnotatedImage]],
    left_out: Mapping[str, int],
) -> None:
    counts = {}
    for name, samples in splits.items():
        targets = indicators((sample.labels for sample in samples), labels)
        per_image = targets.sum(axis=1)
        counts[name] = targets.sum(axis=0)
        print_line(
            f"{name}: {len(samples)} images, {per_image.mean():.2f} labels an image (at most "
            f"{per_image.max()}), {np.count_nonzero(per_image == 0)} without labels"
        )
    rows = zip(labels, *counts.values(), strict=True)
    positives = [f"{row[0]} {'/'.join(map(str, row[1:]))}" for row in rows]
    print_line(textwrap.fill(f"positives ({'/'.join(counts)}): {_listed(positives)}", 100))
    for name, column in counts.items():
        if nothing := [label for label, count in zip(labels, column, strict=True) if not count]:
            print_line(textwrap.fill(f"without positives in {name}: {_listed(nothing)}", 100))
    for reason, count in left_out.items():
        if count:
            print_line(f"left out: {count} ({reason})")
