"""Write report.html of an evaluated experiment: precision-recall curves, average precision of each
label with bootstrap intervals, calibration, scores, and the worst mistakes, in one file.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.arguments import add_bootstrap_flags
from lib.common.cli import Parser, folder_path, fraction_or_tuned, non_negative_int, run_main


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--exp-dir",
        required=True,
        type=folder_path,
        help="experiment folder that evaluate.py scored",
    )
    parser.add_argument(
        "--threshold",
        type=fraction_or_tuned,
        help="score from which a label counts as predicted (default: tuned, where evaluate.py "
        "--tune-thresholds has been, else as in training, 0.5)",
    )
    add_bootstrap_flags(parser)
    parser.add_argument(
        "--examples",
        type=non_negative_int,
        default=24,
        help="images of each kind of mistake (%(default)s)",
    )
    arguments = parser.parse_args()

    from lib.common.console import print_line
    from lib.reports.report import write_report
    from lib.reports.results import open_evaluated

    run = open_evaluated(arguments.exp_dir)
    file = write_report(
        run,
        cutoffs=run.cutoffs(arguments.threshold),
        resamples=arguments.resamples,
        seed=arguments.seed,
        examples=arguments.examples,
    )
    print_line(f"report: {file}")


if __name__ == "__main__":
    run_main(main)
