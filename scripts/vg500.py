"""Turn Visual Genome with its 500 labels, in its official form, into data/vg500/.

Labels are published as numbers; each takes the lower-case object name of objects.json whose set of
images overlaps most with its own (intersection over union). --numeric-labels keeps the numbers.
"""

import sys
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.arguments import preprocess_parser
from lib.common.cli import run_main
from lib.common.errors import UserError
from lib.common.flags import from_arguments

NUM_LABELS = 500
WEAK = 0.5  # overlap below which a name says little
REMEDY = "--data-dir takes the folder with ssgrl_partition, VG_100K, VG_100K_2 and objects.json"
PARTS = ("VG_100K", "VG_100K_2")
SPLITS = {"train": "train_list_500.txt", "test": "test_list_500.txt"}


def main() -> None:
    parser = preprocess_parser(__doc__, "datasets/VisualGenome", "data/vg500")
    parser.add_argument(
        "--numeric-labels", action="store_true", help="0 to 499 as label names; no boxes"
    )
    arguments = parser.parse_args()

    from lib.common.readers import decode_json, require_list
    from lib.data.preparation.image_files import find_images
    from lib.data.preparation.writer import Options, write_data_folder
    from lib.data.sources.annotations import AnnotatedImage

    source, partition = arguments.data_dir, arguments.data_dir / "ssgrl_partition"
    index_file = partition / "vg_category_500_labels_index.json"
    index = decode_json(index_file, dict[str, list[int]])
    lists = {split: require_list(partition / name, REMEDY) for split, name in SPLITS.items()}
    images = [image for listed in lists.values() for image in listed]
    for image in images:
        if not all(0 <= column < NUM_LABELS for column in index.get(image, [-1])):
            raise UserError(f"{index_file}: {image}: expected labels of 0 to {NUM_LABELS - 1}")
    labels: list[str] = [str(number) for number in range(NUM_LABELS)]
    objects: dict[str, list[dict]] = {}
    if not arguments.numeric_labels:
        labels, objects = name_labels(source / "objects.json", images, index)
    splits: dict[str, list[AnnotatedImage]] = {}
    for split, listed in lists.items():
        splits[split] = []
        for image in listed:
            path, other = (f"{(source / part).as_posix()}/{image}" for part in PARTS)
            names = [labels[column] for column in index[image]]
            boxes = objects.get(image, [])
            found = AnnotatedImage(path, names, objects=boxes, other_paths=[other])
            splits[split].append(found)
        find_images(splits[split])
    write_data_folder(from_arguments(Options, arguments), labels, splits, {})


def name_labels(
    file: Path, images: list[str], index: dict[str, list[int]]
) -> tuple[list[str], dict[str, list[dict]]]:
    """Label names, and the objects `{label, box, difficult}` of each image under these names."""
    from lib.common.console import print_line
    from lib.data.preparation.splits import indicators
    from lib.data.sources.visual_genome import names_by_overlap, read_objects

    objects = read_objects(file, images)
    given = [
        list({name for one in objects.get(image, ()) for name in one.labels}) for image in images
    ]
    names = sorted(set().union(*given))
    if not names:
        raise UserError(f"{file}: names no object of the listed images")
    targets = indicators([index[image] for image in images], range(NUM_LABELS))
    found = names_by_overlap(targets, names, indicators(given, names))
    for number, name in enumerate(found):
        print_line(f"label {number}: {name.label}, overlap {name.overlap:.3f}")
    weak = [f"{name.label} ({name.overlap:.2f})" for name in found if name.overlap < WEAK]
    print_line(
        f"{len(weak)} of {len(found)} names overlap by less than {WEAK}: {', '.join(weak) or '-'}"
    )
    boxes = {}
    for image in images:
        labels_of = defaultdict(list)
        for number in dict.fromkeys(index[image]):
            labels_of[found[number].object_name].append(found[number].label)
        boxes[image] = [
            {"label": label, "box": one.box, "difficult": False}
            for one in objects.get(image, ())
            for name in sorted(one.labels & labels_of.keys())
            for label in labels_of[name]
        ]
    return [name.label for name in found], boxes


if __name__ == "__main__":
    run_main(main)
