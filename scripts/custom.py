"""Turn your own images and labels into data/<name>/.

--train (and --test, --val-from) takes a CSV file with columns path, labels, perhaps split, a COCO
.json file, a YOLO data.yaml, a folder of VOC .xml files, or an image folder with metadata.jsonl.
Without a test part, a fraction of the images is split off, the same for every label.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.cli import folder_path, fraction, preprocess_parser, run_main
from lib.common.errors import UserError


def main() -> None:
    parser = preprocess_parser(__doc__, data_dir=None, save_dir=None)
    parser.add_argument("--name", required=True, type=folder_path, help="writes data/NAME/")
    parser.add_argument(
        "--train", required=True, type=folder_path, help="annotations: file or folder"
    )
    parser.add_argument("--test", type=folder_path, help="annotations of the test images")
    parser.add_argument("--val-from", type=folder_path, help="annotations of the validation images")
    parser.add_argument(
        "--images", type=folder_path, help="where the picture files are (default: by the form)"
    )
    parser.add_argument(
        "--test-images", type=folder_path, help="where those of --test are (default: as --images)"
    )
    parser.add_argument(
        "--labels", type=folder_path, help="text file, a label a line, in the order of the columns"
    )
    parser.add_argument(
        "--test-share", type=fraction, default=0.2, help="without a test part (%(default)s)"
    )
    arguments = parser.parse_args()
    if len(arguments.name.parts) != 1 or arguments.name.name in ("", ".."):
        raise UserError(f"--name {arguments.name}: must be the name of a folder")

    from lib.data.sources import read_source
    from lib.data.splits import split_off
    from lib.data.writer import Options, write_data_folder

    arguments.save_dir = Path("data") / arguments.name
    images = arguments.images
    given = {
        "train": (arguments.train, images),
        "val": (arguments.val_from, images),
        "test": (arguments.test, arguments.test_images or images),
    }
    splits: dict[str, list] = {}
    position_of: dict[str, str] = {}
    for split, (source, folder_of_images) in given.items():
        for sample, named, position in read_source(source, folder_of_images) if source else ():
            splits.setdefault(named or split, []).append(sample)
            if (path := os.path.normpath(sample.path)) in position_of:
                raise UserError(
                    f"{position}: {sample.path} is a duplicate of {position_of[path]}: list each "
                    "image once, with all of its labels"
                )
            position_of[path] = position
    labels = read_label_order(arguments.labels, splits)
    if "train" not in splits:
        raise UserError(f"{arguments.train}: names no train image")
    if arguments.val and "val" in splits:
        raise UserError(f"--val {arguments.val:g}: there are validation images already")
    if "test" not in splits:
        splits["train"], splits["test"] = split_off(
            splits["train"], labels, arguments.test_share, arguments.seed, "--test-share"
        )
    options = Options.from_arguments(arguments, images_flag="--images")
    write_data_folder(options, labels, splits, {})


def read_label_order(file: Path | None, splits: dict[str, list]) -> list[str]:
    """The labels of `file`, or all that the images have, in alphabetical order."""
    from lib.common.readers import require_list

    used = {
        label
        for samples in splits.values()
        for sample in samples
        for part in (sample.labels, sample.difficult, sample.unknown)
        for label in part
    }
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
