"""A user's own annotations: from the arguments of custom.py to checked images and labels."""

import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from lib.common.errors import UserError
from lib.common.flags import flag_name, from_arguments
from lib.common.readers import require_list
from lib.data.lists import check_label
from lib.data.preparation.boxes import place_boxes
from lib.data.preparation.groups import group_by_pattern
from lib.data.preparation.image_files import find_images
from lib.data.preparation.label_checks import ALLOWED, odd_labels
from lib.data.preparation.labels import clean
from lib.data.sources import SPECIAL_OPTIONS, read_source
from lib.data.sources.annotations import SPLIT_NAMES, ReadOptions


def read_sources(arguments: Namespace) -> tuple[list, list[str]]:
    """(split, row) of all images, the folder of each source's image files in `row`'s options."""
    sources = {
        "train": (arguments.train, arguments.images),
        "val": (arguments.val_from, arguments.val_images or arguments.images),
        "test": (arguments.test, arguments.test_images or arguments.images),
    }
    rows, notes, heeded, forms = [], [], set(), []
    for split, (source, images) in sources.items():
        if source is None:
            continue
        unknown = arguments.blank == "unknown"
        options = from_arguments(ReadOptions, arguments, images=images, blank_unknown=unknown)
        found = read_source(source, options)
        heeded |= found.heeded
        forms.append(found.form)
        samples = [row.image for row in found.rows]
        for row in found.rows if images else ():
            row.image.other_paths = [*row.image.other_paths, *in_split(row, split, images)]
        notes += [f"{source}: read as {found.form}", *found.notes]
        notes += find_images(samples, images, arguments.extension)
        rows += [(split, row) for row in found.rows]
    require_heeded(arguments, options, heeded, ", ".join(dict.fromkeys(forms)))
    samples = [row.image for _, row in rows]
    groups = {sample.group for sample in samples if sample.group}
    if groups:
        notes.append(f"--group {arguments.group}: {len(groups)} groups")
    elif arguments.group:
        notes += group_by_pattern(samples, arguments.group)
    return rows, notes


def require_heeded(arguments: Namespace, options: Any, heeded: set[str], forms: str) -> None:
    """Raise `UserError` for a flag that the forms of the sources do not heed."""
    for name in SPECIAL_OPTIONS:
        if getattr(options, name) and name not in heeded:
            flag = "--blank" if name == "blank_unknown" else flag_name(name)
            raise UserError(f"{flag}: has no effect on {forms}: leave it out")


def in_split(row: Any, split: str, images: Path) -> list[str]:
    """Where the file of a row may be in `images`, if it has a folder for each split."""
    folders = [name for name, found in SPLIT_NAMES.items() if found == (row.split or split)]
    inner = row.image.path.removeprefix(f"{images.as_posix()}/")
    return [(images / folder / inner).as_posix() for folder in folders]


def require_plausible(rows: list, allowed: list[str]) -> None:
    """Raise `UserError` for labels that a line cannot hold, or that are probably no labels, unless
    --allow names the check."""
    if strange := set(allowed) - set(ALLOWED):
        raise UserError(f"--allow {strange.pop()}: expected {', '.join(ALLOWED)}")
    labels = [(*one.image.labels, *one.image.difficult, *one.image.unknown) for one in rows]
    position_of: dict[str, str] = {}
    for row, given in zip(rows, labels, strict=True):
        for label in given:
            position_of.setdefault(label, row.position)
    for label, position in position_of.items():
        try:
            check_label(label, position)
        except UserError as error:
            lines = ', or --separator "\\n" splits it' if "\n" in label else ""
            raise UserError(f"{error}; --map FILE (old,new a line) renames it{lines}") from error
    for finding in odd_labels(labels):
        if finding.name not in allowed:
            raise UserError(
                f"{position_of[finding.labels[0]]}: {finding.line}; {finding.remedy}; --allow "
                f"{finding.name} accepts them as they are"
            )


def check_files(rows: list, arguments: Namespace) -> list[str]:
    """Check that each file is one row's, that groups are not parted, and bring boxes into the
    pixels of their pictures; gives notes."""
    position_of: dict[str, str] = {}
    splits_of: dict[str, set[str]] = {}
    for split, row in rows:
        if (path := os.path.normpath(row.image.path)) in position_of:
            other = "; --test-images and --val-images name other folders" if arguments.test else ""
            raise UserError(
                f"{row.position}: {row.image.path} is a duplicate of {position_of[path]}: list "
                f"each image once, with all of its labels{other}"
            )
        position_of[path] = row.position
        if row.image.group:
            splits_of.setdefault(row.image.group, set()).add(row.split or split)
    parted = [group for group, splits in splits_of.items() if len(splits) > 1]
    if parted and arguments.group:
        raise UserError(
            f"--group {arguments.group}: the splits that are given part {len(parted)} groups, such "
            f"as {parted[0]!r}, which is in {' and '.join(sorted(splits_of[parted[0]]))}: leave "
            "the given splits out, or --group"
        )
    return place_boxes([row.image for _, row in rows], arguments.exif)


def read_label_order(file: Path | None, samples: list) -> list[str]:
    """The labels of `file`, or all that the images have, in alphabetical order."""
    parts = [part for one in samples for part in (one.labels, one.difficult, one.unknown)]
    used = {label for part in parts for label in part}
    if not used:
        raise UserError("no image has a label: nothing can be learned")
    if file is None:
        return sorted(used)
    labels = [
        clean(one) for one in require_list(file, "--labels takes a text file, a label a line")
    ]
    if strange := sorted(used - set(labels)):
        raise UserError(f"{file}: lacks the label {strange[0]!r}, which the images have")
    return labels
