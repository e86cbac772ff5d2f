"""Turn Pascal VOC 2007, in its official form, into data/voc2007/.

A label counts for an image if one of its objects is not difficult; a label present only as
difficult is marked in ignore.npy for the test images. Train is the trainval list.
"""

import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.cli import Parser, folder, run_main
from lib.errors import UserError

LABELS = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
    "person pottedplant sheep sofa train tvmonitor"
).split()
SPLITS = {"train": "trainval", "test": "test"}


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--data-dir",
        type=folder,
        default="datasets/VOC2007",
        help="the official files (%(default)s)",
    )
    parser.add_argument(
        "--save-dir", type=folder, default="data/voc2007", help="where to write (%(default)s)"
    )
    arguments = parser.parse_args()
    convert(arguments.data_dir, arguments.save_dir)


def convert(source: Path, target: Path) -> None:
    """Read `source` (Annotations, ImageSets, JPEGImages) and write the data folder `target`."""
    import numpy as np

    from lib.files import staged_folder, write_json, write_npy, write_text
    from lib.manifest import check_images
    from lib.progress import bar, say

    boxes = {}
    with staged_folder(target) as stage:
        for split, list_name in SPLITS.items():
            list_file = source / "ImageSets" / "Main" / f"{list_name}.txt"
            names = read_list(list_file)
            paths = [(source / "JPEGImages" / f"{name}.jpg").as_posix() for name in names]
            check_images(list_file, paths)
            lines, ignore = [], np.zeros((len(names), len(LABELS)), np.uint8)
            for row, (name, path) in enumerate(
                zip(bar(names, f"{split} annotations", "image"), paths, strict=True)
            ):
                objects = read_objects(source / "Annotations" / f"{name}.xml")
                sure = {found["label"] for found in objects if not found["difficult"]}
                doubtful = {found["label"] for found in objects} - sure
                lines.append(f"{path}\t{','.join(label for label in LABELS if label in sure)}\n")
                ignore[row, [LABELS.index(label) for label in doubtful]] = 1
                boxes[path] = objects
            write_text(stage / f"{split}.txt", "".join(lines))
            if split == "test":
                write_npy(stage / "ignore.npy", ignore)
            say(f"{split}: {len(names)} images, {ignore.sum()} labels present only as difficult")
        write_text(stage / "label.txt", "\n".join(LABELS) + "\n")
        write_json(stage / "boxes.json", boxes)
    say(f"wrote {target}")


def read_list(file: Path) -> list[str]:
    """The image names of one of the official lists."""
    from lib.readers import numbered_lines

    if not file.is_file():
        raise UserError(
            f"{file}: no such file; --data-dir takes the folder VOC2007 of the official archives"
        )
    names = [line.strip() for _, line in numbered_lines(file) if line.strip()]
    if not names:
        raise UserError(f"{file}: an empty list")
    return names


def read_objects(file: Path) -> list[dict]:
    """The objects `{label, box, difficult}` of one annotation file."""
    from xml.etree import ElementTree

    try:
        root = ElementTree.parse(file).getroot()
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such annotation") from error
    except (OSError, ElementTree.ParseError) as error:
        raise UserError(f"{file}: not a readable annotation: {error}") from error
    objects = []
    for element in root.iter("object"):
        label = (element.findtext("name") or "").strip().lower()
        if label not in LABELS:
            raise UserError(f"{file}: {label!r} is not one of the 20 labels of VOC 2007")
        try:
            box = [
                _number(element.findtext(f"bndbox/{edge}"))
                for edge in ("xmin", "ymin", "xmax", "ymax")
            ]
        except (TypeError, ValueError) as error:
            raise UserError(f"{file}: an object ({label}) without a full box") from error
        difficult = (element.findtext("difficult") or "0").strip() == "1"
        objects.append({"label": label, "box": box, "difficult": difficult})
    return objects


def _number(text: str) -> int | float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return int(value) if value.is_integer() else value


if __name__ == "__main__":
    run_main(main)
