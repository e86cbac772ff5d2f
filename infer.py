"""Say what an experiment's model sees in pictures, and draw where it looked."""

from lib.cli import experiment_parser, listed, positive_int, run_main


def main() -> None:
    parser = experiment_parser(
        "Tag pictures and draw the heatmaps of their labels, into the experiment's visualization/: "
        "index.html (opens from the disk), predictions.jsonl and the raw grids (.npz)."
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
        "--labels", type=listed, help="these labels alone, as in dog,person, and images with one"
    )
    parser.add_argument(
        "--only-errors",
        action="store_true",
        help="only test images with a label that is missed, or predicted wrongly",
    )
    parser.add_argument("--limit", type=positive_int, help="at most so many images")
    parser.add_argument(
        "--overlays",
        action="store_true",
        help="also write each label's heatmap over its picture, as a JPEG",
    )
    arguments = parser.parse_args()

    from lib.distributed import session
    from lib.inference import infer

    flags = vars(arguments)
    with session(flags.pop("device")) as world:
        infer(flags.pop("exp_dir"), world, **flags)


if __name__ == "__main__":
    run_main(main)
