"""A user's own annotations: from the arguments of custom.py to checked images and labels."""

import os
from argparse import Namespace
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from lib.common.console import print_line
from lib.common.errors import UserError
from lib.common.flags import flag_name, from_arguments
from lib.common.readers import require_list
from lib.data.lists import check_label
from lib.data.preparation.groups import group_by_pattern
from lib.data.preparation.image_files import find_images
from lib.data.preparation.label_checks import CHECKS, Labels, odd_labels
from lib.data.sources import FORMS, Form, read_source, require_same_columns
from lib.data.sources.annotations import SPLIT_NAMES, AnnotatedImage, ReadOptions
from lib.data.sources.cells import clean
from lib.data.sources.names import without_commas


def read_sources(arguments: Namespace) -> list[AnnotatedImage]:
    """The images of all sources, each with its split and its file."""
    images: list[AnnotatedImage] = []
    forms: list[Form] = []
    given = {"train": None, "val": arguments.val_images, "test": arguments.test_images}
    sources = {"train": arguments.train, "val": arguments.val_from, "test": arguments.test}
    for found in sources.values():
        require_same_columns(found, from_arguments(ReadOptions, arguments))
    for split, source in [(name, one) for name, found in sources.items() for one in found]:
        folder = given[split] or arguments.images
        found, read_as = read_source(source, from_arguments(ReadOptions, arguments, images=folder))
        for image in found:
            image.split = image.split or split
            if folder:  # it may have a folder for each split
                inner = image.path.removeprefix(f"{folder.as_posix()}/")
                names = (name for name, of in SPLIT_NAMES.items() if of == image.split)
                others = (f"{folder.as_posix()}/{name}/{inner}" for name in names)
                image.other_paths = [*image.other_paths, *others]
        find_images(found, folder, arguments.extension)
        images += found
        forms += read_as
    _require_heeded(arguments, forms)
    if groups := {image.group for image in images if image.group}:
        print_line(f"--group {arguments.group}: {len(groups)} groups")
    elif arguments.group:
        group_by_pattern(images, arguments.group)
    return images


def _require_heeded(arguments: Namespace, forms: Sequence[Form]) -> None:
    """Raise `UserError` for a flag that only some forms heed, and none of `forms`."""
    options, heeded = ReadOptions(), {name for form in forms for name in form.options.split()}
    for name in dict.fromkeys(name for form in FORMS for name in form.options.split()):
        if getattr(arguments, name) != getattr(options, name) and name not in heeded:
            names = ", ".join(dict.fromkeys(form.name for form in forms))
            raise UserError(f"{flag_name(name)}: has no effect on {names}: leave it out")


def require_plausible(images: Sequence[AnnotatedImage], allowed: Sequence[str]) -> None:
    """Raise `UserError` for labels that a line cannot hold, or that are probably no labels, unless
    --allow names the check."""
    names = [*(check.name for check in CHECKS), "columns"]
    if strange := set(allowed) - set(names):
        raise UserError(f"--allow {strange.pop()}: expected {', '.join(names)}")
    position_of: dict[str, str] = {}
    for image in images:
        for label in image.named:
            position_of.setdefault(label, image.position)
    for label, position in position_of.items():
        try:
            check_label(label, position)
        except UserError as error:
            lines = ', or --separator "\\n" splits it' if "\n" in label else ""
            raise UserError(f"{error}; --map FILE (old,new a line) renames it{lines}") from error
    for check, odd in odd_labels(Labels.of([image.named for image in images])):
        if check.name not in allowed:
            raise UserError(f"{position_of[next(iter(odd))]}: {check.line(odd)}")


def once_each(images: Sequence[AnnotatedImage], arguments: Namespace) -> list[AnnotatedImage]:
    """The images without those that repeat an earlier one, labels and all.

    Raises `UserError` for a file that two other images have, and for a group in two splits.
    """
    first: dict[str, AnnotatedImage] = {}
    splits_of: dict[str, set[str]] = defaultdict(set)
    for image in images:
        same = first.setdefault(os.path.normpath(image.path), image)
        if _said(same) != _said(image):
            other = "; --test-images and --val-images name other folders" if arguments.test else ""
            raise UserError(
                f"{image.position}: {image.path} is a duplicate of {same.position}: list each "
                f"image once, with all of its labels{other}"
            )
        if image.group and image.split:
            splits_of[image.group].add(image.split)
    if len(first) < len(images):
        print_line(f"left out: {len(images) - len(first)} rows that repeat another one")
    parted = [group for group, splits in splits_of.items() if len(splits) > 1]
    if parted and arguments.group:
        raise UserError(
            f"--group {arguments.group}: the splits that are given part {len(parted)} groups, such "
            f"as {parted[0]!r}, which is in {' and '.join(sorted(splits_of[parted[0]]))}: leave "
            "the given splits out, or --group"
        )
    return list(first.values())


def _said(image: AnnotatedImage) -> tuple:
    return image.path, image.split, image.labels, image.unknown, image.objects


def read_label_order(file: Path | None, images: Sequence[AnnotatedImage]) -> list[str]:
    """The labels of `file`, or all that the images have, in alphabetical order."""
    used = {label for one in images for label in one.named}
    if not used:
        raise UserError("no image has a label: nothing can be learned")
    if file is None:
        return sorted(used)
    labels = list(map(clean, require_list(file, "--labels takes a text file, a label a line")))
    changed = without_commas(labels, file)
    labels = [changed.get(label, label) for label in labels]
    if strange := sorted(used - set(labels)):
        raise UserError(f"{file}: lacks the label {strange[0]!r}, which the images have")
    return labels
