"""Compare evaluated experiments: their scores, the flags in which they differ, mean and standard
deviation over seeds (runs that differ in --seed alone), and differences with bootstrap intervals.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.arguments import add_bootstrap_flags
from lib.common.cli import Parser, folder_path, fraction, run_main


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "experiments",
        nargs="+",
        type=folder_path,
        metavar="EXP_DIR",
        help="experiment folders that evaluate.py scored on the same images; the first is what "
        "the others are compared with",
    )
    parser.add_argument(
        "--save-dir",
        type=folder_path,
        help="also write comparison.md, .csv (full precision) and .png there",
    )
    parser.add_argument(
        "--threshold",
        type=fraction,
        help="score from which a label counts as predicted (default: as in each run's training)",
    )
    add_bootstrap_flags(parser)
    arguments = parser.parse_args()

    from lib.common.console import print_line
    from lib.common.files import staged_folder, write_csv, write_text
    from lib.reports.comparison import compare, draw, markdown
    from lib.reports.results import open_evaluated

    groups = compare(
        [open_evaluated(path) for path in arguments.experiments],
        threshold=arguments.threshold,
        resamples=arguments.resamples,
        seed=arguments.seed,
    )
    rows = sum(groups, [])
    lines = list(markdown(rows))
    for line in lines:
        print_line(line)
    if target := arguments.save_dir:
        with staged_folder(target) as stage:
            write_text(stage / "comparison.md", "\n".join(lines) + "\n")
            write_csv(stage / "comparison.csv", rows)
            draw(stage / "comparison.png", groups)
        print_line(f"table and figure: {target}")


if __name__ == "__main__":
    run_main(main)
