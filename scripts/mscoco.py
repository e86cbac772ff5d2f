"""Turn MS-COCO 2014, in its official form, into data/mscoco/.

Train is train2014, test is val2014. Labels stand in the order of the JSON's categories, images in
that of their ids; crowd annotations count as labels, but get no box; images without
annotations are left out.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.cli import preprocess_parser, run_main
from lib.common.errors import UserError

SPLITS = {"train": "train2014", "test": "val2014"}


def main() -> None:
    parser = preprocess_parser(__doc__, "datasets/MSCOCO", "data/mscoco")
    arguments = parser.parse_args()

    from lib.common.console import progress_bar
    from lib.data.sources.coco import read_instances, samples_of
    from lib.data.writer import Options, write_data_folder

    labels: list[str] = []
    splits, without = {}, 0
    for split, name in progress_bar(SPLITS.items(), "annotations", "file"):
        file = arguments.data_dir / "annotations" / f"instances_{name}.json"
        if not file.is_file():
            raise UserError(f"{file}: no such file; --data-dir takes the folder with annotations/")
        instances = read_instances(file)
        found = [category.name.strip() for category in instances.categories]
        if labels and found != labels:
            raise UserError(f"{file}: other categories than in the train annotations")
        labels = found
        splits[split], left_out = samples_of(instances, arguments.data_dir / name, file)
        without += left_out
    options = Options.from_arguments(arguments)
    write_data_folder(options, labels, splits, {"no annotations": without})


if __name__ == "__main__":
    run_main(main)
