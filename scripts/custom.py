"""Turn your own images and labels into data/<name>/.

--train (and --test, --val-from) takes a CSV or TSV table, COCO JSON, a YOLO data.yaml, VOC or CVAT
XML, JSON of Label Studio or FiftyOne, or a Hugging Face image folder: a file, its folder, or a
folder with train, valid and test. Without a test part, a fraction of the images is split off, the
same for every label.
"""

import argparse
import dataclasses
import sys
from argparse import Namespace
from pathlib import Path

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
from lib.common.flags import flag_name, from_arguments

NUM_EXAMPLES = 3  # images in the summary
TEST_SHARE = 0.2


def main() -> None:
    parser = preprocess_parser(__doc__, data_dir=None, save_dir=None)
    add_flags(parser)
    arguments = parser.parse_args()
    require_consistent(arguments)
    if len(arguments.name.parts) != 1 or arguments.name.name in ("", ".."):
        raise UserError(f"--name {arguments.name}: must be the name of a folder")

    from lib.common.console import print_line
    from lib.data.preparation.labels import LabelChanges, change_labels
    from lib.data.preparation.own_data import (
        check_files,
        read_label_order,
        read_sources,
        require_plausible,
    )
    from lib.data.preparation.writer import Options, write_data_folder

    rows, notes = read_sources(arguments)
    samples = [row.image for _, row in rows]
    notes += change_labels(samples, from_arguments(LabelChanges, arguments))
    require_plausible([row for _, row in rows], arguments.allow)
    notes += check_files(rows, arguments)
    splits: dict[str, list] = {}
    for split, row in rows:
        splits.setdefault(row.split or split, []).append(row.image)
    if "train" not in splits:
        raise UserError(f"{arguments.train}: names no train image")
    if arguments.val and "val" in splits:
        raise UserError(f"--val {arguments.val:g}: there are validation images already")
    if arguments.test_share is not None and "test" in splits:
        raise UserError(f"--test-share {arguments.test_share:g}: there are test images already")
    for note in notes:
        print_line(note)
    labels = read_label_order(arguments.labels, samples)
    arguments.save_dir = Path("data") / arguments.name
    remedy = "pass --images with their folder"
    if arguments.images:
        remedy = f"none of them is found in --images {arguments.images}: pass another folder"
    options = from_arguments(Options, arguments, images_remedy=remedy, own_data=True)
    if arguments.test_share is None:
        options = dataclasses.replace(options, test_share=TEST_SHARE)
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
    add(
        "--extension",
        type=image_ending,
        help="ending of image files whose names have none, such as .jpg",
    )
    add("--recursive", action="store_true", help="read VOC .xml files in sub-folders too")
    add(
        "--exif",
        choices=EXIF,
        default=UPRIGHT,
        help="how train.py will read "
        "images with an EXIF turn: boxes belong to them as they are then (default: %(default)s)",
    )
    add = parser.add_argument_group("tables").add_argument
    add("--path-column", help="column of the image files (default: by its name)")
    add("--labels-column", help="column of the labels (default: by its name)")
    add(
        "--separator",
        type=label_separator,
        help='what separates labels in a cell, such as " " (default: , ; or |)',
    )
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
        help=f"fraction of test images, without a test part (default: {TEST_SHARE})",
    )
    add(
        "--group",
        metavar="COLUMN|REGEX",
        help="images of one group stay in one split: the same "
        "value of a column, or the same match of a regular expression in the path",
    )


def require_consistent(arguments: Namespace) -> None:
    """Raise `UserError` for flags that have no effect without others, and for folders that are not
    there."""
    for name, other in (("test_images", "test"), ("val_images", "val_from")):
        if getattr(arguments, name) and not getattr(arguments, other):
            raise UserError(f"{flag_name(name)}: has no effect without {flag_name(other)}")
    if arguments.labels_column and arguments.label_columns:
        raise UserError("--labels-column and --label-columns contradict each other: pass one")
    for name in ("images", "test_images", "val_images"):
        if (folder := getattr(arguments, name)) and not folder.is_dir():
            raise UserError(f"{flag_name(name)} {folder}: no such folder")
    for name in ("group", "separator"):
        if getattr(arguments, name) == "":
            raise UserError(f"{flag_name(name)}: must not be empty")


def image_ending(text: str) -> str:
    """Type of a flag: the ending of a file name, with or without its point."""
    ending = f".{text.removeprefix('.')}"
    if not ending[1:].isalnum():
        raise argparse.ArgumentTypeError(f"{text!r}: must be an ending such as .jpg")
    return ending


def label_separator(text: str) -> str:
    """Type of a flag: text in which \\n and \\t stand for a line end and a tab."""
    return text.replace("\\n", "\n").replace("\\t", "\t")


if __name__ == "__main__":
    run_main(main)
