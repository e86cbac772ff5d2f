"""Turn your own images and labels into data/<name>/.

--train (and --test, --val-from) takes a CSV or TSV table, COCO JSON, a YOLO data.yaml, VOC or CVAT
XML, JSON of Label Studio or FiftyOne, or a Hugging Face image folder: a file, its folder, or a
folder with train, valid and test. Without a test part, a fraction of the images is split off, the
same for every label.
"""

import dataclasses
import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.cli import (
    EXIF,
    UPRIGHT,
    Parser,
    comma_separated,
    folder_path,
    fraction,
    non_negative_int,
    preprocess_parser,
    run_main,
)
from lib.common.errors import UserError

NUM_EXAMPLES = 3  # images in the summary


def main() -> None:
    parser = preprocess_parser(__doc__, data_dir=None, save_dir=None)
    add_flags(parser)
    arguments = parser.parse_args()
    if len(arguments.name.parts) != 1 or arguments.name.name in ("", ".."):
        raise UserError(f"--name {arguments.name}: must be the name of a folder")

    from lib.common.console import print_line
    from lib.data.preparation.labels import LabelChanges, change_labels
    from lib.data.preparation.writer import Options, write_data_folder

    rows, notes = read_sources(arguments)
    samples = [row.image for _, row in rows]
    notes += change_labels(samples, chosen_fields(LabelChanges, arguments))
    require_plausible([row for _, row in rows], arguments.allow)
    notes += check_files(rows, arguments)
    splits: dict[str, list] = {}
    for split, row in rows:
        splits.setdefault(row.split or split, []).append(row.image)
    if "train" not in splits:
        raise UserError(f"{arguments.train}: names no train image")
    if arguments.val and "val" in splits:
        raise UserError(f"--val {arguments.val:g}: there are validation images already")
    for note in notes:
        print_line(note)
    labels = read_label_order(arguments.labels, samples)
    arguments.save_dir = Path("data") / arguments.name
    remedy = "pass --images with their folder"
    if arguments.images:
        remedy = f"none of them is below --images {arguments.images}: pass another folder"
    options = Options.from_arguments(arguments, images_remedy=remedy, own_data=True)
    write_data_folder(options, labels, splits, {}, NUM_EXAMPLES)


def add_flags(parser: Parser) -> None:
    """Add the flags of this script."""
    add = parser.add_argument_group("annotations").add_argument
    add("--name", required=True, type=folder_path, help="writes data/NAME/")
    add("--train", required=True, type=folder_path, help="annotations: file or folder")
    add("--test", type=folder_path, help="annotations of the test images")
    add("--val-from", type=folder_path, help="annotations of the validation images")
    add("--images", type=folder_path, help="folder of the image files (default: by the form)")
    add("--test-images", type=folder_path, help="the one of --test (default: as --images)")
    add("--val-images", type=folder_path, help="the one of --val-from (default: as --images)")
    add("--extension", help="ending of image files whose names have none, such as .jpg")
    add("--recursive", action="store_true", help="read VOC .xml files in sub-folders too")
    add(
        "--exif",
        choices=EXIF,
        default=UPRIGHT,
        help="how train.py will read "
        "pictures with an EXIF turn: boxes belong to them as they are then (default: %(default)s)",
    )
    add = parser.add_argument_group("tables").add_argument
    add("--path-column", help="column of the image files (default: by its name)")
    add("--labels-column", help="column of the labels (default: by its name)")
    add("--separator", help='what separates labels in a cell, such as " " (default: , ; or |)')
    add(
        "--label-columns",
        type=comma_separated,
        default=(),
        metavar="A,B",
        help="columns of 0 and 1, one for each label (default: all that hold nothing else)",
    )
    add(
        "--not-labels",
        type=comma_separated,
        default=(),
        metavar="A,B",
        help="columns of 0 and 1 that are no labels",
    )
    add(
        "--blank",
        choices=("no", "unknown"),
        default="no",
        help="meaning of an empty cell in such "
        "a column, and of labels that Open Images does not list (default: %(default)s)",
    )
    add = parser.add_argument_group("labels").add_argument
    add("--labels", type=folder_path, help="text file, a label a line, in the order of the columns")
    add(
        "--label-names",
        type=folder_path,
        metavar="FILE",
        help="names of labels that are numbers: a text file, a line each from 0, or .json",
    )
    add(
        "--class-descriptions",
        type=folder_path,
        metavar="FILE",
        help="names of codes such as /m/01g317: lines of code,name (Open Images)",
    )
    add(
        "--none",
        action="append",
        default=[],
        metavar="WORD",
        help="a word that means no label, such as 'No Finding'; can be repeated",
    )
    add("--lowercase", action="store_true", help="one label for Dog, dog and DOG")
    add(
        "--map",
        type=folder_path,
        metavar="FILE",
        help="lines of old,new to rename labels; an empty new drops a label",
    )
    add("--keep", type=comma_separated, default=(), metavar="A,B", help="drop all other labels")
    add(
        "--min-count",
        type=non_negative_int,
        default=0,
        metavar="N",
        help="drop labels of fewer images",
    )
    add(
        "--allow",
        type=comma_separated,
        action="extend",
        default=[],
        metavar="CHECK",
        help="accept labels that a check refuses: binary, brackets, null, numbers, case, "
        "punctuation, joined",
    )
    add = parser.add_argument_group("splits").add_argument
    add(
        "--test-share",
        type=fraction,
        default=0.2,
        help="fraction of test images, without a test part (default: %(default)s)",
    )
    add(
        "--group",
        metavar="COLUMN|REGEX",
        help="images of one group stay in one split: the same "
        "value of a column, or the same match of a regular expression in the path",
    )


def chosen_fields(kind: type, arguments: Namespace, **others: Any) -> Any:
    """A dataclass from the arguments that have the names of its fields."""
    names = {item.name for item in dataclasses.fields(kind)} & set(vars(arguments))
    return kind(**{name: getattr(arguments, name) for name in names} | others)


def read_sources(arguments: Namespace) -> tuple[list, list[str]]:
    """(split, row) of all images, the folder of each source's image files in `row`'s options."""
    from lib.data.preparation.groups import group_by_pattern
    from lib.data.preparation.image_files import find_images
    from lib.data.sources import read_source
    from lib.data.sources.annotations import ReadOptions

    sources = {
        "train": (arguments.train, arguments.images),
        "val": (arguments.val_from, arguments.val_images or arguments.images),
        "test": (arguments.test, arguments.test_images or arguments.images),
    }
    rows, notes = [], []
    for split, (source, images) in sources.items():
        if source is None:
            continue
        unknown = arguments.blank == "unknown"
        options = chosen_fields(ReadOptions, arguments, images=images, blank_unknown=unknown)
        found = read_source(source, options)
        samples = [row.image for row in found.rows]
        for row in found.rows if images else ():
            row.image.other_paths = [*row.image.other_paths, *in_split(row, split, images)]
        notes += [f"{source}: read as {found.form}", *found.notes]
        notes += find_images(samples, images, arguments.extension)
        rows += [(split, row) for row in found.rows]
    samples = [row.image for _, row in rows]
    groups = {sample.group for sample in samples if sample.group}
    if groups:
        notes.append(f"--group {arguments.group}: {len(groups)} groups")
    elif arguments.group:
        notes += group_by_pattern(samples, arguments.group)
    return rows, notes


def in_split(row: Any, split: str, images: Path) -> list[str]:
    """Where the file of a row may be in `images`, if it has a folder for each split."""
    from lib.data.sources.annotations import SPLIT_NAMES

    folders = [name for name, found in SPLIT_NAMES.items() if found == (row.split or split)]
    inner = row.image.path.removeprefix(f"{images.as_posix()}/")
    return [(images / folder / inner).as_posix() for folder in folders]


def require_plausible(rows: list, allowed: list[str]) -> None:
    """Raise `UserError` for labels that a line cannot hold, or that are probably no labels, unless
    --allow names the check."""
    from lib.data.lists import check_label
    from lib.data.preparation.label_checks import ALLOWED, odd_labels

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
            raise UserError(f"{error}; --map FILE (old,new a line) renames it") from error
    for finding in odd_labels(labels):
        if finding.name not in allowed:
            raise UserError(
                f"{position_of[finding.labels[0]]}: {finding.line}; {finding.remedy}; --allow "
                f"{finding.name} accepts them as they are"
            )


def check_files(rows: list, arguments: Namespace) -> list[str]:
    """Check that each file is one row's, that groups are not parted, and bring boxes into the
    pixels of their pictures; gives notes."""
    from lib.data.preparation.boxes import place_boxes

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
    from lib.common.readers import require_list

    parts = [part for one in samples for part in (one.labels, one.difficult, one.unknown)]
    used = {label for part in parts for label in part}
    if not used:
        raise UserError("no image has a label: nothing can be learned")
    if file is None:
        return sorted(used)
    labels = require_list(file, "--labels takes a text file with a label a line")
    if strange := sorted(used - set(labels)):
        raise UserError(f"{file}: lacks the label {strange[0]!r}, which the images have")
    return labels


if __name__ == "__main__":
    run_main(main)
