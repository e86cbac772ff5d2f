"""Turn Pascal VOC 2007, in its official form, into data/voc2007/; or VOC 2012 into data/voc2012/.

A label counts for an image if one of its objects is not difficult; a label present only as
difficult is marked in ignore.npy for the test images. Train is the trainval list and test the test
list; of 2012, whose test annotations are not public, train is the train list and test the val list.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.arguments import parse_with_year, preprocess_parser
from lib.common.cli import run_main
from lib.common.errors import UserError
from lib.common.flags import from_arguments

LABELS = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
    "person pottedplant sheep sofa train tvmonitor"
).split()
REMEDY = "--data-dir takes the folder VOC2007 (VOC2012 with --year 2012) of the official archives"
YEARS = {
    "2007": ("datasets/VOC2007", "data/voc2007"),
    "2012": ("datasets/VOC2012", "data/voc2012"),
}
SPLITS = {
    "2007": {"train": "trainval", "test": "test"},
    "2012": {"train": "train", "test": "val"},
}


def main() -> None:
    arguments = parse_with_year(preprocess_parser(__doc__, *YEARS["2007"]), YEARS)

    from lib.data.preparation.writer import Options, write_data_folder

    splits = {
        split: read_split(arguments.data_dir, list_name)
        for split, list_name in SPLITS[arguments.year].items()
    }
    write_data_folder(from_arguments(Options, arguments), LABELS, splits, {})


def read_split(source: Path, list_name: str) -> list:
    """The images of one official list, in its order."""
    from lib.common.console import progress_bar
    from lib.common.readers import require_list
    from lib.data.sources.annotations import AnnotatedImage
    from lib.data.sources.folders.voc import read_objects

    images = []
    names = require_list(source / "ImageSets" / "Main" / f"{list_name}.txt", REMEDY)
    for name in progress_bar(names, f"{list_name} annotations", "image"):
        image = AnnotatedImage((source / "JPEGImages" / f"{name}.jpg").as_posix())
        file = source / "Annotations" / f"{name}.xml"
        for label, box, is_difficult in read_objects(file):
            if label.lower() not in LABELS or not box:
                raise UserError(
                    f"{file}: {label!r} is not one of the {len(LABELS)} labels, or has no full box"
                )
            image.add(label.lower(), box, is_difficult)
        images.append(image)
    return images


if __name__ == "__main__":
    run_main(main)
