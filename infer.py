"""Draw the attention heatmaps of an experiment, on its test images or on any others."""

from lib.cli import experiment_parser, positive_int, run_main, share_or_tuned


def main() -> None:
    parser = experiment_parser(
        "Draw heatmaps of the labels that the model predicts, or the ground truth names, into the "
        "experiment's visualization/: overlays, raw grids (.npz) and index.html.",
        threshold="tuned, where evaluate.py --tune-thresholds has been, else as in training, 0.5",
        kind=share_or_tuned,
    )
    parser.add_argument(
        "--images",
        nargs="+",
        metavar="FILE_OR_FOLDER",
        help="pictures to draw (default: the test images of the experiment's data)",
    )
    parser.add_argument("--limit", type=positive_int, help="draw at most so many images")
    arguments = parser.parse_args()

    from lib.distributed import session
    from lib.inference import infer

    with session(arguments.device) as world:
        infer(
            arguments.exp_dir,
            world,
            images=arguments.images,
            limit=arguments.limit,
            threshold=arguments.threshold,
            batch_size=arguments.batch_size,
            workers=arguments.workers,
        )


if __name__ == "__main__":
    run_main(main)
