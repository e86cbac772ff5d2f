"""Turn your own images and labels into data/<name>/.

--train (and --test, --val-from) takes CSV or TSV tables, text lists, COCO JSON, a YOLO data.yaml,
VOC or CVAT XML, JSON of Label Studio, LabelMe, VIA or FiftyOne, a Hugging Face image folder, tags
beside the pictures, or a folder a label: a file, its folder, or a folder with train, valid and
test. Without a test part, a fraction of the images is split off, the same for every label.
"""

import argparse
import sys
from argparse import Namespace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.arguments import preprocess_parser
from lib.common.cli import (
    EXIF,
    UPRIGHT,
    Parser,
    comma_separated,
    folder_path,
    fraction,
    non_negative_int,
    run_main,
)
from lib.common.errors import UserError
from lib.common.flags import flag_name, from_arguments

TEST_SHARE = 0.2


def main() -> None:
    parser = preprocess_parser(__doc__, data_dir=None, save_dir=None)
    add_flags(parser)
    arguments = parser.parse_args()
    require_consistent(arguments)

    from lib.data.preparation.boxes import place_boxes
    from lib.data.preparation.labels import change_labels
    from lib.data.preparation.own_data import (
        once_each,
        read_label_order,
        read_sources,
        require_plausible,
    )
    from lib.data.preparation.writer import Options, write_data_folder

    images = read_sources(arguments)
    change_labels(images, arguments)
    require_plausible(images, arguments.allow)
    images = once_each(images, arguments)
    place_boxes(images, arguments.exif)
    splits: dict[str, list] = {}
    for image in images:
        splits.setdefault(str(image.split), []).append(image)
    if "train" not in splits:
        raise UserError(f"{arguments.train[0]}: names no train image")
    shares = ("val", "--val", arguments.val or None), ("test", "--test-share", arguments.test_share)
    for split, flag, share in shares:
        if share is not None and split in splits:
            raise UserError(f"{flag} {share:g}: there are {split} images already")
    if arguments.test_share is None:
        arguments.test_share = TEST_SHARE
    folder = Path("data") / arguments.name
    flags = "--images"
    flags += ", --test-images" * bool(arguments.test) + ", --val-images" * bool(arguments.val_from)
    options = from_arguments(Options, arguments, save_dir=folder, images_flags=flags, own_data=True)
    write_data_folder(options, read_label_order(arguments.labels, images), splits, {})


def add_flags(parser: Parser) -> None:
    """Add the flags of this script."""
    add = parser.add_argument_group("annotations").add_argument
    add("--name", required=True, type=folder_path, help="writes data/NAME/")
    source = partial(add, type=folder_path, nargs="+", metavar="SOURCE")
    source("--train", required=True, help="annotations: file or folder, or several of one form")
    source("--test", default=(), help="annotations of the test images")
    source("--val-from", default=(), help="annotations of the validation images")
    add("--images", type=folder_path, help="folder of the image files (default: by the form)")
    add("--test-images", type=folder_path, help="the one of --test (default: as --images)")
    add("--val-images", type=folder_path, help="the one of --val-from (default: as --images)")
    add("--extension", type=image_ending, help="ending of files that are named without one: .jpg")
    add("--recursive", action="store_true", help="read VOC .xml files in sub-folders too")
    add(
        "--exif",
        choices=EXIF,
        default=UPRIGHT,
        help="how train.py will read images with an EXIF turn: boxes belong to them as they are "
        "then (default: %(default)s)",
    )
    add = parser.add_argument_group("tables").add_argument
    names = partial(add, type=comma_separated, default=(), metavar="A,B")
    add("--path-column", help="column of the image files (default: by its name)")
    add("--labels-column", help="column of the labels (default: by its name)")
    add(
        "--separator",
        type=label_separator,
        help="between labels in a cell (default: , ; or |) or joined in a name",
    )
    names(
        "--label-columns",
        help="columns of 0 and 1, a label each (default: all that hold only these)",
    )
    names("--not-labels", help="columns of 0 and 1 that are no labels")
    add(
        "--blank",
        choices=("no", "unknown"),
        default="no",
        help="meaning of an empty cell in such a column, and of labels that Open Images does not "
        "list (default: %(default)s)",
    )
    add(
        "--labels-from",
        metavar="NAME",
        help="attribute whose values are the labels, in CVAT's and VIA's files (default: CVAT's "
        "labels; VIA's only attribute, or by its name)",
    )
    add(
        "--min-confidence",
        type=fraction,
        help="confidence from which a label counts, and number from which a column is 1 (default: "
        "0.5 where a table of objects has fractions)",
    )
    add = parser.add_argument_group("labels").add_argument
    file = partial(add, type=folder_path, metavar="FILE")
    file("--labels", help="a text file with a label a line, in the order of the columns")
    file("--label-names", help="names of number labels: .json, .csv, or text, a line each from 0")
    file("--class-descriptions", help="names of codes (/m/01g317), lines of code,name: Open Images")
    file("--map", help="lines of old,new to rename labels; an empty new drops a label")
    none = "a word that means no label, such as 'No Finding'; can be repeated"
    add("--none", action="append", default=[], metavar="WORD", help=none)
    add("--lowercase", action="store_true", help="one label for Dog, dog and DOG")
    add("--keep", type=comma_separated, default=(), metavar="A,B", help="drop all other labels")
    add("--min-count", type=non_negative_int, default=0, help="drop labels of fewer images")
    add(
        "--allow",
        type=comma_separated,
        action="extend",
        default=[],
        metavar="CHECK",
        help="accept labels that a check refuses: binary, brackets, null, scores, joined, numbers, "
        "case, punctuation, unique, columns",
    )
    add = parser.add_argument_group("splits").add_argument
    share = f"fraction of test images, without a test part (default: {TEST_SHARE})"
    add("--test-share", type=fraction, help=share)
    add(
        "--group",
        metavar="COLUMN|REGEX",
        help="images of one group stay in one split: the same value of a column, or the same match "
        "of a regular expression in the path",
    )


def require_consistent(arguments: Namespace) -> None:
    """Raise `UserError` for flags that contradict each other or have no effect, and for folders
    that are not there."""
    if len(arguments.name.parts) != 1 or arguments.name.name in ("", ".."):
        raise UserError(f"--name {arguments.name}: must be the name of a folder")
    for name, other in (("test_images", "test"), ("val_images", "val_from")):
        if getattr(arguments, name) and not getattr(arguments, other):
            raise UserError(f"{flag_name(name)}: has no effect without {flag_name(other)}")
    if arguments.labels_column and arguments.label_columns:
        raise UserError("--labels-column: contradicts --label-columns: pass one of them")
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
