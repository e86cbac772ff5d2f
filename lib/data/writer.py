"""From the images and labels of a data set to its data folder: what its scripts share.

A script reads official files into `Sample`s; this module checks the images, splits off validation
images, writes `data/<name>/` whole or not at all, and sums up what it wrote.

Shapes: N images of a split, C labels.
"""

import json
import os
import textwrap
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from lib.common.console import print_line, progress_bar
from lib.common.errors import UserError
from lib.common.files import staged_folder, write_npy, write_text
from lib.data.folder import missing_images
from lib.data.lists import check_labels, check_path
from lib.data.transforms import read_image

NAMED = 10  # files that an error names at the most
FILES = ("label.txt", "train.txt", "val.txt", "test.txt", "ignore.npy", "boxes.json")


@dataclass
class AnnotatedImage:
    """One image: its path, its labels, and its objects `{label, box [x0, y0, x1, y1], difficult}`.

    `doubtful` labels of test images are marked in `ignore.npy`, `unknown` ones written `?label`.
    """

    path: str
    labels: Iterable[str]
    doubtful: Iterable[str] = ()
    unknown: Iterable[str] = ()
    objects: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Options:
    """Flags that every script has."""

    save_dir: Path
    check_images: bool = False
    skip_missing: bool = False
    val: float = 0.0
    seed: int = 0
    images_flag: str = "--data-dir"  # says where the pictures are

    @classmethod
    def of(cls, arguments: Namespace, **others: Any) -> "Options":
        """The options among a script's arguments, and `others`."""
        known = {item.name for item in fields(cls)} & set(vars(arguments))
        return cls(**{name: getattr(arguments, name) for name in known}, **others)


def write_data_folder(
    options: Options,
    labels: Sequence[str],
    splits: Mapping[str, Sequence[AnnotatedImage]],
    left_out: Mapping[str, int],
) -> None:
    """Write `splits` ("train", "test", and "val" if there is one) to `options.save_dir`.

    `left_out` counts what the script itself left out, by reason. Raises `UserError` for labels that
    the contract has no place for, for images that are missing or broken, and for empty splits.
    """
    check_labels(labels, lambda row: "label")
    _require_once(splits)
    left_out = dict(left_out)
    splits = _with_images(splits, options, left_out)
    for name, samples in splits.items():
        if not samples:
            reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count)
            raise UserError(
                f"{options.save_dir / name}.txt: no images are left for it (left out: "
                f"{reasons or 'none'})"
            )
    if options.val:
        splits["train"], splits["val"] = split_off(
            splits["train"], labels, options.val, options.seed, "--val"
        )
    with staged_folder(options.save_dir, replaces=FILES) as stage:
        write_text(stage / "label.txt", "".join(f"{label}\n" for label in labels))
        for name, samples in splits.items():
            write_text(stage / f"{name}.txt", "".join(_line(one, labels) for one in samples))
        if any(sample.doubtful for sample in splits.get("test", ())):
            marks = indicators((one.doubtful for one in splits["test"]), labels)
            write_npy(stage / "ignore.npy", marks)
        everything = [sample for samples in splits.values() for sample in samples]
        if any(sample.objects for sample in everything):
            write_text(stage / "boxes.json", _boxes(everything))
    _sum_up(options, labels, splits, left_out)


def indicators(rows: Iterable[Iterable[str]], labels: Sequence[str]) -> np.ndarray:
    """Label names of N images -> (N, C) uint8 of 0 and 1."""
    column = {label: index for index, label in enumerate(labels)}
    rows = [[column[label] for label in row] for row in rows]
    array = np.zeros((len(rows), len(labels)), np.uint8)
    for marks, columns in zip(array, rows, strict=True):
        marks[columns] = 1
    return array


def stratified_choice(targets: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Choose about `fraction` of N rows, and of each label's positives -> bool (N,).

    Rarest label first, each takes what it still needs from the rows that no rarer one has placed
    (iterative stratification, Sechidis et al. 2011, with two parts); rows without labels fill up.
    """
    random = np.random.default_rng(seed)
    chosen, placed = np.zeros(len(targets), bool), np.zeros(len(targets), bool)
    counts = targets.sum(axis=0, dtype=np.int64)
    for column in np.argsort(counts, kind="stable"):
        positive = targets[:, column] == 1
        free = random.permutation(np.flatnonzero(positive & ~placed))
        wanted = round(fraction * counts[column]) - np.count_nonzero(positive & chosen)
        chosen[free[: max(wanted, 0)]] = True
        placed[free] = True
    free = random.permutation(np.flatnonzero(~placed))
    wanted = round(fraction * len(targets)) - np.count_nonzero(chosen)
    chosen[free[: max(wanted, 0)]] = True
    return chosen


def split_off(
    samples: Sequence[AnnotatedImage], labels: Sequence[str], fraction: float, seed: int, flag: str
) -> tuple[list[AnnotatedImage], list[AnnotatedImage]]:
    """Part `samples` into the rest and a `fraction`, which is alike for every label.

    Raises `UserError`, naming `flag`, where either would be empty.
    """
    targets = indicators((sample.labels for sample in samples), labels)
    chosen = stratified_choice(targets, fraction, seed)
    if not chosen.any() or chosen.all():
        raise UserError(f"{flag} {fraction:g}: leaves one part of {len(samples)} images empty")
    rest = [sample for sample, away in zip(samples, chosen, strict=True) if not away]
    return rest, [sample for sample, away in zip(samples, chosen, strict=True) if away]


def find_broken(paths: Sequence[str]) -> dict[str, str]:
    """Open every picture, on all cores; gives the reasons of those that cannot be decoded."""
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
    """Raise `UserError` for an image that stands twice, in a split or in two."""
    place: dict[str, str] = {}
    for name, samples in splits.items():
        for sample in samples:
            check_path(sample.path)
            if sample.path in place:
                where = sorted({name, place[sample.path]})
                raise UserError(f"{sample.path}: stands there twice, in {' and '.join(where)}")
            place[sample.path] = name


def _with_images(
    splits: Mapping[str, Sequence[AnnotatedImage]], options: Options, left_out: dict[str, int]
) -> dict[str, list[AnnotatedImage]]:
    """The samples whose image is there (and opens, with --check-images); counts the others, or
    raises `UserError` for them."""
    paths = [sample.path for samples in splits.values() for sample in samples]
    bad = dict.fromkeys(missing_images(paths), "file is missing")
    if options.check_images:
        broken = find_broken([path for path in paths if path not in bad])
        for reason in broken.values():
            print_line(f"broken: {reason}")
        bad |= dict.fromkeys(broken, "file cannot be read")
    if bad and not options.skip_missing:
        more = f", and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        some = ", or pass --skip-missing to leave them out" if len(bad) < len(paths) else ""
        raise UserError(
            f"{len(bad)} of {len(paths)} images are missing or cannot be read: "
            f"{', '.join(list(bad)[:NAMED])}{more}; paths are relative to {os.getcwd()}; say with "
            f"{options.images_flag} where they are{some}"
        )
    for reason, count in Counter(bad.values()).items():
        left_out[reason] = left_out.get(reason, 0) + count
    return {
        name: [sample for sample in samples if sample.path not in bad]
        for name, samples in splits.items()
    }


def _line(sample: AnnotatedImage, labels: Sequence[str]) -> str:
    """The sample's line of a split: labels in column order, the unknown ones marked."""
    present, unknown = set(sample.labels), set(sample.unknown)
    names = [
        f"?{label}" if label in unknown else label
        for label in labels
        if label in present or label in unknown
    ]
    return f"{sample.path}\t{','.join(names)}\n"


def _boxes(samples: Iterable[AnnotatedImage]) -> str:
    """`boxes.json`, an image a line."""
    lines = (
        f"{json.dumps(sample.path, ensure_ascii=False)}: "
        f"{json.dumps(sample.objects, ensure_ascii=False, allow_nan=False)}"
        for sample in samples
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _sum_up(
    options: Options,
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
    positives = ", ".join(f"{row[0]} {'/'.join(map(str, row[1:]))}" for row in rows)
    print_line(textwrap.fill(f"positives ({'/'.join(counts)}): {positives}", 100))
    for name, column in counts.items():
        if nothing := [label for label, count in zip(labels, column, strict=True) if not count]:
            print_line(textwrap.fill(f"without positives in {name}: {', '.join(nothing)}", 100))
    for reason, count in left_out.items():
        if count:
            print_line(f"left out: {count} ({reason})")
    print_line(f"wrote {options.save_dir}")
