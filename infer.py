"""Say what an experiment's model sees in pictures, and draw where it looked: into a folder, or on a
local page."""

from argparse import BooleanOptionalAction

from lib.common.cli import (
    comma_separated,
    experiment_parser,
    fraction_or_tuned,
    non_negative_int,
    positive_int,
    run_main,
)
from lib.common.errors import UserError

PORT = 7860


def main() -> None:
    parser = experiment_parser(
        "Tag pictures and draw the heatmaps of their labels, into the experiment's visualization/: "
        "index.html (opens from the disk), predictions.jsonl and the raw grids (.npz).",
        threshold="tuned, where evaluate.py --tune-thresholds has been, else as in training, 0.5",
        kind=fraction_or_tuned,
    )
    parser.add_argument(
        "--images",
        nargs="+",
        metavar="FILE_OR_FOLDER",
        help="pictures to tag (default: the test images of the experiment's data)",
    )
    parser.add_argument(
        "--top",
        type=positive_int,
        help="list at most so many labels per image, the highest of those that reach --threshold",
    )
    parser.add_argument(
        "--labels",
        type=comma_separated,
        help="these labels alone, as in dog,person, and images with one",
    )
    parser.add_argument(
        "--only-errors",
        action="store_true",
        help="only test images with a label that is missed, or predicted wrongly",
    )
    parser.add_argument("--limit", type=positive_int, help="at most so many images")
    parser.add_argument(
        "--overlays",
        action=BooleanOptionalAction,
        help="write each label's heatmap over its picture as a JPEG too (default: with --images)",
    )
    parser.add_argument(
        "--serve",
        action="store_true",
        help="instead, show a page at 127.0.0.1 on which to drop pictures",
    )
    parser.add_argument("--port", type=non_negative_int, help=f"of --serve; 0 is any ({PORT})")
    arguments = parser.parse_args()
    if arguments.serve:
        show_page(arguments)
        return
    if arguments.port is not None:
        raise UserError("--port: is of use with --serve alone; leave it out")

    from lib.inference.infer import infer
    from lib.runtime.launch import session

    flags = vars(arguments)
    del flags["serve"], flags["port"]
    with session(flags.pop("device")) as world:
        infer(flags.pop("exp_dir"), world, **flags)


def show_page(arguments) -> None:
    of_use = ("exp_dir", "device", "threshold", "serve", "port")
    for flag, value in vars(arguments).items():
        if flag not in of_use and value not in (None, False):
            name = flag.replace("_", "-")
            raise UserError(f"--{name}: is of no use with --serve; leave one of them out")

    from lib.inference.serve import serve

    port = PORT if arguments.port is None else arguments.port
    serve(arguments.exp_dir, arguments.device, port, arguments.threshold)


if __name__ == "__main__":
    run_main(main)
