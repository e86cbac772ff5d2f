"""Turn MS-COCO 2014, in its official form, into data/mscoco/; or 2017 into data/mscoco2017/.

Train is train2014, test is val2014 (or train2017 and val2017). Labels stand in the order of the
JSON's categories, images in that of their ids; crowd annotations count as labels, but get no box;
images without annotations are left out.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.arguments import parse_with_year, preprocess_parser
from lib.common.cli import run_main
from lib.common.errors import UserError
from lib.common.flags import from_arguments

YEARS = {
    "2014": ("datasets/MSCOCO", "data/mscoco"),
    "2017": ("datasets/MSCOCO", "data/mscoco2017"),
}


def main() -> None:
    arguments = parse_with_year(preprocess_parser(__doc__, *YEARS["2014"]), YEARS)

    from lib.common.console import progress_bar
    from lib.data.preparation.writer import Options, write_data_folder
    from lib.data.sources.annotations import ReadOptions
    from lib.data.sources.json_forms.coco import images_of, read_instances

    labels: list[str] = []
    splits, without = {}, 0
    parts = {"train": f"train{arguments.year}", "test": f"val{arguments.year}"}
    for split, name in progress_bar(parts.items(), "annotations", "file"):
        file = arguments.data_dir / "annotations" / f"instances_{name}.json"
        if not file.is_file():
            raise UserError(f"{file}: no such file; --data-dir takes the folder with annotations/")
        instances = read_instances(file)
        found = [category.name.strip() for category in instances.categories]
        if labels and found != labels:
            raise UserError(f"{file}: other categories than in the train annotations")
        labels = found
        folder = arguments.data_dir / name
        if not folder.is_dir() and (arguments.data_dir / "images" / name).is_dir():
            folder = arguments.data_dir / "images" / name
        images = images_of(instances, file, ReadOptions(images=folder))
        splits[split] = [image for image in images if image.labels]
        without += len(images) - len(splits[split])
    options = from_arguments(Options, arguments)
    write_data_folder(options, labels, splits, {"no annotations": without})


if __name__ == "__main__":
    run_main(main)
