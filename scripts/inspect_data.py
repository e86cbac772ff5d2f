"""Show what a data folder holds and what is wrong with it: label frequencies and co-occurrence as
figures and a table, odd labels, copies, leakage between splits, labels without positives,
unreadable files, turned images, boxes outside their images.
"""

import itertools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.cli import EXIF, UPRIGHT, Parser, folder_path, run_main


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--data", required=True, help="name of a folder under data/, or its path")
    parser.add_argument(
        "--save-dir",
        type=folder_path,
        help="where to write the figures (default: the data folder)",
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
    from lib.data.inspection import (
        MAX_LISTED,
        across_splits,
        boxes_outside,
        copy_numbers,
        draw_cooccurrence,
        draw_frequencies,
        file_stem,
        odd_label_lines,
        one_of_each_split,
        overview,
        same_by,
    )
    from lib.data.preparation.boxes import headers_of
    from lib.data.preparation.writer import find_broken

    data = DataFolder.open(arguments.data)
    names = [name for name in ("train", "val", "test") if (data.path / f"{name}.txt").exists()]
    splits = {name: data.split(name) for name in names or ("train",)}
    for line in overview(data.labels, splits):
        print_line(line)

    def report(what: str, found: list[str]) -> None:
        print_line(f"{what}: {len(found) or 'none'}")
        for line in found[:MAX_LISTED]:
            print_line(f"  {line}")
        if len(found) > MAX_LISTED:
            print_line(f"  and {len(found) - MAX_LISTED} more")

    for name, split in splits.items():
        positives = split.targets.sum(axis=0)
        empty = [label for label, count in zip(data.labels, positives, strict=True) if not count]
        report(f"labels without positives in {name}", empty)
    report("odd labels", odd_label_lines(data.labels, splits))
    paths = list(dict.fromkeys(path for split in splits.values() for path in split.paths))
    copies = list(same_by(splits, copy_numbers(paths).get))
    named = same_by(splits, file_stem)
    for what, groups in {
        "the same image in several splits (leakage)": filter(across_splits, copies),
        "the same image twice in a split": itertools.filterfalse(across_splits, copies),
        "the same file name in several splits (leakage, if versions of one image)": filter(
            across_splits, named
        ),
    }.items():
        report(what, [one_of_each_split(group) for group in groups])
    report("unreadable files", list(find_broken(paths).values()))
    headers = headers_of(paths, arguments.exif)
    turned = [path for path, header in headers.items() if header.turned]
    report(f"images with an EXIF turn (read as {arguments.exif})", turned)
    report("boxes outside their images", boxes_outside(data.boxes() or {}, headers))

    target = arguments.save_dir or data.path
    pictures = target / "labels.png", target / "cooccurrence.png"
    draw_frequencies(pictures[0], data.name, data.labels, splits)
    draw_cooccurrence(pictures[1], data.name, data.labels, splits.get("train", splits[names[0]]))
    print_line(f"figures: {pictures[0]} {pictures[1]}")


if __name__ == "__main__":
    run_main(main)
