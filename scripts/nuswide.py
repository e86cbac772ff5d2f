"""Turn NUS-WIDE, in its official form, into data/nuswide/.

Labels as in Concepts81.txt (or ConceptsList/Concepts81.txt), images in the order of Imagelist.txt;
images without labels are left out. Backslashes, trailing spaces and carriage returns in the lists
are understood. --images takes another folder of the images, also one without sub-folders.
"""

import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.cli import folder_path, preprocess_parser, run_main
from lib.common.errors import UserError
from lib.common.flags import from_arguments

REMEDY = "--data-dir takes the folder with Flickr, Groundtruth, ImageList and Concepts81.txt"
SPLITS = {"train": "TrainImagelist", "test": "TestImagelist"}


def main() -> None:
    parser = preprocess_parser(__doc__, "datasets/NUS-WIDE", "data/nuswide")
    parser.add_argument(
        "--images",
        type=folder_path,
        help="folder of the images, with the sub-folders of Flickr or without (default: Flickr in "
        "--data-dir)",
    )
    arguments = parser.parse_args()

    import numpy as np

    from lib.common.console import progress_bar
    from lib.common.readers import require_list
    from lib.data.lists import check_labels
    from lib.data.preparation.writer import Options, write_data_folder
    from lib.data.sources.annotations import AnnotatedImage

    source = arguments.data_dir
    concepts = source / "Concepts81.txt"
    if not concepts.is_file() and (source / "ConceptsList").is_dir():
        concepts = source / "ConceptsList" / "Concepts81.txt"
    labels = require_list(concepts, REMEDY)
    check_labels(labels, lambda row: str(concepts))
    images = read_images(source / "ImageList" / "Imagelist.txt")
    row_of = {image: row for row, image in enumerate(images)}
    matrix = np.zeros((len(images), len(labels)), np.uint8)
    for column, label in enumerate(progress_bar(labels, "ground truth", "label")):
        file = source / "Groundtruth" / "AllLabels" / f"Labels_{label}.txt"
        matrix[:, column] = read_indicators(file, len(images))
    rows_of, without = {}, 0
    for split, list_name in SPLITS.items():
        file = source / "ImageList" / f"{list_name}.txt"
        split_images = read_images(file)
        if unknown := [image for image in split_images if image not in row_of]:
            raise UserError(f"{file}: {unknown[0]} is not in Imagelist.txt")
        rows = np.array(sorted(row_of[image] for image in split_images))
        rows_of[split] = rows[matrix[rows].any(axis=1)]
        without += len(rows) - len(rows_of[split])
    labelled = [images[row] for rows in rows_of.values() for row in rows]
    path_of = find_paths(arguments.images or source / "Flickr", labelled)
    names = np.array(labels, object)
    splits = {
        split: [
            AnnotatedImage(path_of[images[row]], names[matrix[row] == 1].tolist())
            for row in progress_bar(rows, split, "image")
        ]
        for split, rows in rows_of.items()
    }
    flag = "--images" if arguments.images else "--data-dir"
    options = from_arguments(Options, arguments, images_remedy=f"pass {flag} with their folder")
    write_data_folder(options, labels, splits, {"no labels": without})


def find_paths(folder: Path, images: list[str]) -> dict[str, str]:
    """The file of each image below `folder`: in its sub-folder, or else by its name alone."""
    from lib.data.folder import missing_images

    path_of = {image: (folder / image).as_posix() for image in images}
    elsewhere = set(missing_images(list(path_of.values())))
    flat = {
        image: (folder / Path(image).name).as_posix()
        for image, path in path_of.items()
        if path in elsewhere
    }
    gone = set(missing_images(list(flat.values())))
    image_of: dict[str, str] = {}
    for image, path in flat.items():
        if path in gone:
            continue
        if path in image_of:
            raise UserError(
                f"{path}: may be {image_of[path]} or {image}: images without sub-folders need "
                "names of their own; keep the sub-folders of the archives"
            )
        image_of[path] = image
        path_of[image] = path
    return path_of


def read_images(file: Path) -> list[str]:
    """The image paths of a list, with `/`; a duplicate is an error."""
    from lib.common.readers import require_list

    images = [line.replace("\\", "/") for line in require_list(file, REMEDY)]
    if len(set(images)) < len(images):
        duplicate = next(image for image, count in Counter(images).items() if count > 1)
        raise UserError(f"{file}: {duplicate} is a duplicate")
    return images


def read_indicators(file: Path, length: int):
    """One label's column of 0 and 1 -> bool (length,)."""
    import numpy as np

    try:
        values = np.array(file.read_bytes().split())
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}; {REMEDY}") from error
    if len(values) != length:
        raise UserError(f"{file}: {len(values)} values, expected one for each of {length} images")
    if not np.isin(values, (b"0", b"1")).all():
        raise UserError(f"{file}: holds other values than 0 and 1")
    return values == b"1"


if __name__ == "__main__":
    run_main(main)
