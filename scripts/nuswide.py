"""Turn NUS-WIDE, in its official form, into data/nuswide/.

Labels as in Concepts81.txt (or ConceptsList/Concepts81.txt), images in the order of Imagelist.txt;
images without labels are left out. Backslashes, trailing spaces and carriage returns in the lists
are understood. --images takes another folder of the images, also one without sub-folders.
"""

import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.arguments import preprocess_parser
from lib.common.cli import folder_path, run_main
from lib.common.errors import UserError
from lib.common.flags import from_arguments

REMEDY = "--data-dir takes the folder with Flickr, Groundtruth, ImageList and Concepts81.txt"
SPLITS = {"train": "TrainImagelist.txt", "test": "TestImagelist.txt"}


def main() -> None:
    parser = preprocess_parser(__doc__, "datasets/NUS-WIDE", "data/nuswide")
    parser.add_argument(
        "--images",
        type=folder_path,
        help="folder of the images, with the sub-folders of Flickr or without (default: Flickr in "
        "--data-dir)",
    )
    arguments = parser.parse_args()

    from lib.common.console import progress_bar
    from lib.common.readers import require_list
    from lib.data.lists import check_labels
    from lib.data.preparation.image_files import find_images
    from lib.data.preparation.writer import Options, write_data_folder
    from lib.data.sources.annotations import AnnotatedImage

    source = arguments.data_dir
    concepts = source / "Concepts81.txt"
    if not concepts.is_file() and (source / "ConceptsList").is_dir():
        concepts = source / "ConceptsList" / "Concepts81.txt"
    labels = require_list(concepts, REMEDY)
    check_labels(labels, lambda row: str(concepts))
    lists = source / "ImageList"
    folder = f"{(arguments.images or source / 'Flickr').as_posix()}/".removeprefix("./")
    images = {}
    for name in read_list(lists / "Imagelist.txt"):
        flat = folder + name.rpartition("/")[2]
        images[name] = AnnotatedImage(folder + name, other_paths=[flat])
    rows = list(images.values())
    for label in progress_bar(labels, "ground truth", "label"):
        file = source / "Groundtruth" / "AllLabels" / f"Labels_{label}.txt"
        for row in read_positives(file, len(rows)):
            rows[row].labels.append(label)
    splits, without = {}, 0
    for split, list_name in SPLITS.items():
        names = set(read_list(lists / list_name))
        if unknown := sorted(names - images.keys()):
            raise UserError(f"{lists / list_name}: {unknown[0]} is not in Imagelist.txt")
        splits[split] = [images[name] for name in images if name in names and images[name].labels]
        without += len(names) - len(splits[split])
        find_images(splits[split])
    options = from_arguments(Options, arguments, images_flags="--images")
    write_data_folder(options, labels, splits, {"no labels": without})


def read_list(file: Path) -> list[str]:
    """The image paths of a list, with `/`; a duplicate is an error."""
    from lib.common.readers import require_list

    images = [line.replace("\\", "/") for line in require_list(file, REMEDY)]
    for image, count in Counter(images).items():
        if count > 1:
            raise UserError(f"{file}: {image} is a duplicate")
    return images


def read_positives(file: Path, length: int) -> list[int]:
    """The rows of 1 in one label's column of 0 and 1, which has `length` rows."""
    import numpy as np

    try:
        values = np.array(file.read_bytes().split())
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}; {REMEDY}") from error
    if len(values) != length or not np.isin(values, (b"0", b"1")).all():
        raise UserError(f"{file}: expected 0 or 1 for each of {length} images")
    return np.flatnonzero(values == b"1").tolist()


if __name__ == "__main__":
    run_main(main)
