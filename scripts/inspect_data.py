"""Show what a data folder holds and what is wrong with it: label frequencies and co-occurrence as
figures and a table, odd labels, copies, leakage between splits, labels without positives,
unreadable files, turned images, boxes outside their images.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.cli import EXIF, UPRIGHT, Parser, folder_path, run_main

MAX_LISTED = 10  # faults of a kind


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--data", required=True, help="name of a folder under data/, or its path")
    parser.add_argument(
        "--save-dir", type=folder_path, help="where to write the figures (default: the data folder)"
    )
    parser.add_argument(
        "--exif",
        choices=EXIF,
        default=UPRIGHT,
        help="how train.py reads images with an EXIF turn (default: %(default)s)",
    )
    arguments = parser.parse_args()

    from lib.common.console import print_line
    from lib.data.folder import DataFolder
    from lib.data.inspection import draw_cooccurrence, draw_frequencies, faults, overview

    data = DataFolder.open(arguments.data)
    names = [name for name in ("train", "val", "test") if (data.path / f"{name}.txt").exists()]
    splits = {name: data.split(name) for name in names or ("train",)}
    for line in overview(data.labels, splits):
        print_line(line)
    for what, found in faults(data, splits, arguments.exif):
        print_line(f"{what}: {len(found) or 'none'}")
        for line in found[:MAX_LISTED]:
            print_line(f"  {line}")
        if len(found) > MAX_LISTED:
            print_line(f"  and {len(found) - MAX_LISTED} more")
    target = arguments.save_dir or data.path
    pictures = target / "labels.png", target / "cooccurrence.png"
    draw_frequencies(pictures[0], data.name, data.labels, splits)
    draw_cooccurrence(pictures[1], data.name, data.labels, splits.get("train", splits[names[0]]))
    print_line(f"figures: {pictures[0]} {pictures[1]}")


if __name__ == "__main__":
    run_main(main)
