"""Turn Visual Genome with its 500 labels, in its official form, into data/vg500/.

Labels are published as numbers; each takes the lower-case object name of objects.json whose set of
images overlaps most with its own (intersection over union). --numeric-labels keeps the numbers.
"""

import sys
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.cli import preprocess_parser, run_main
from lib.common.errors import UserError
from lib.common.flags import from_arguments

NUM_LABELS = 500
WEAK = 0.5  # overlap below which a name says little
REMEDY = "--data-dir takes the folder with ssgrl_partition, VG_100K, VG_100K_2 and objects.json"
SPLITS = {"train": "train_list_500.txt", "test": "test_list_500.txt"}


def main() -> None:
    parser = preprocess_parser(__doc__, "datasets/VisualGenome", "data/vg500")
    parser.add_argument(
        "--numeric-labels", action="store_true", help="0 to 499 as label names; no boxes"
    )
    arguments = parser.parse_args()

    from lib.common.readers import decode_json, require_list
    from lib.data.folder import missing_images
    from lib.data.preparation.writer import Options, write_data_folder
    from lib.data.sources.annotations import AnnotatedImage

    source, partition = arguments.data_dir, arguments.data_dir / "ssgrl_partition"
    index_file = partition / "vg_category_500_labels_index.json"
    index = decode_json(index_file, dict[str, list[int]])
    lists = {split: require_list(partition / name, REMEDY) for split, name in SPLITS.items()}
    images = [image for listed in lists.values() for image in listed]
    for image in images:
        if image not in index:
            raise UserError(f"{index_file}: has no labels of {image}, which the lists name")
        if not all(0 <= column < NUM_LABELS for column in index[image]):
            raise UserError(f"{index_file}: {image}: a label outside 0 to {NUM_LABELS - 1}")
    if arguments.numeric_labels:
        labels, objects = [str(number) for number in range(NUM_LABELS)], {}
    else:
        labels, objects = name_labels(source / "objects.json", images, index)
    first = [(source / "VG_100K" / image).as_posix() for image in images]
    elsewhere = set(missing_images(first))
    path_of = {
        image: (source / "VG_100K_2" / image).as_posix() if path in elsewhere else path
        for image, path in zip(images, first, strict=True)
    }
    splits = {
        split: [
            AnnotatedImage(
                path_of[image],
                [labels[column] for column in index[image]],
                objects=objects.get(image, []),
            )
            for image in listed
        ]
        for split, listed in lists.items()
    }
    write_data_folder(from_arguments(Options, arguments), labels, splits, {})


def name_labels(file: Path, images: list[str], index: dict[str, list[int]]):
    """Label names, and the objects `{label, box, difficult}` of each image under these names."""
    import numpy as np

    from lib.common.console import print_line
    from lib.data.sources.visual_genome import indicator_matrix, names_by_overlap

    objects = read_objects(file, images)
    column: dict[str, int] = {}
    rows = []
    for image in images:
        given = set().union(*map(names_of, objects.get(image, ())))
        rows.append([column.setdefault(name, len(column)) for name in given])
    if not column:
        raise UserError(f"{file}: names no object of the listed images")
    names = sorted(column)
    place = np.argsort([column[name] for name in names])
    targets = indicator_matrix([index[image] for image in images], NUM_LABELS)
    named = indicator_matrix([place[row] for row in rows], len(names))
    found = names_by_overlap(targets, names, named)
    for number, name in enumerate(found):
        print_line(f"label {number}: {name.label}, overlap {name.overlap:.3f}")
    weak = [f"{name.label} ({name.overlap:.2f})" for name in found if name.overlap < WEAK]
    print_line(
        f"{len(weak)} of {len(found)} names overlap by less than {WEAK}: {', '.join(weak) or '-'}"
    )
    boxes = {}
    for image in images:
        labels_of: dict[str, list[str]] = {}
        for number in dict.fromkeys(index[image]):
            labels_of.setdefault(found[number].object_name, []).append(found[number].label)
        boxes[image] = [
            {
                "label": label,
                "box": [one.x, one.y, one.x + one.w, one.y + one.h],
                "difficult": False,
            }
            for one in objects.get(image, ())
            for name in sorted(names_of(one))
            for label in labels_of.get(name, ())
        ]
    return [name.label for name in found], boxes


def read_objects(file: Path, images: list[str]) -> dict[str, tuple]:
    """Image -> its objects with names, x, y, w and h, of the listed images.

    Version 1.0 of the file calls an image `id` and may give an object one `name`; 1.2 and 1.4 have
    `image_id` and `names`.
    """
    import msgspec

    from lib.common.readers import decode_json

    numbers = [(name, float) for name in ("x", "y", "w", "h")]
    # millions of objects that hold no references: leave them out of garbage collection
    names: list[Any] = [("names", tuple[str, ...] | None, None), ("name", str | None, None)]
    fields: list[Any] = [*numbers, *names]
    object_type: Any = msgspec.defstruct("Object", fields, gc=False)
    ids: list[Any] = [(name, int | None, None) for name in ("image_id", "id")]
    fields = [("objects", tuple[object_type, ...]), *ids]
    record_type: Any = msgspec.defstruct("Record", fields, gc=False)
    listed = {Path(image).stem: image for image in images}
    found: dict[str, tuple] = {}
    for row, record in enumerate(decode_json(file, list[record_type])):
        number = record.id if record.image_id is None else record.image_id
        if number is None:
            raise UserError(f"{file}: [{row}] has neither image_id nor id")
        if image := listed.get(str(number)):
            for one in record.objects:
                if one.names is None and one.name is None:
                    raise UserError(f"{file}: [{row}] (image {number}): an object without names")
            found[image] = found.get(image, ()) + record.objects
    return found


def names_of(one) -> set[str]:
    """The names of an object, as labels have them."""
    names = [one.name] if one.names is None else one.names
    return {name for text in names if (name := label_name(text))}


@cache  # millions of objects share some ten thousand names
def label_name(text: str) -> str | None:
    """`text` in lower case; None where no label can be called so."""
    from lib.data.lists import is_label

    name = text.lower().strip()
    return name if is_label(name) else None


if __name__ == "__main__":
    run_main(main)
