"""Draw the attention heatmaps of an experiment, on its test images or any others, or on a page."""

from lib.cli import experiment_parser, positive_int, run_main, share_or_tuned, whole_number
from lib.errors import UserError

PORT = 7860


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
    parser.add_argument(
        "--serve",
        action="store_true",
        help="instead, show a page at 127.0.0.1 on which to drop pictures",
    )
    parser.add_argument("--port", type=whole_number, help=f"of --serve; 0 is any ({PORT})")
    arguments = parser.parse_args()
    if arguments.serve:
        show_page(arguments)
        return
    if arguments.port is not None:
        raise UserError("--port: is of use with --serve alone; leave it out")

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


def show_page(arguments) -> None:
    for flag in ("images", "limit", "batch_size", "workers"):
        if getattr(arguments, flag) is not None:
            name = flag.replace("_", "-")
            raise UserError(f"--{name}: is of no use with --serve; leave one of them out")

    from lib.serve import serve

    port = PORT if arguments.port is None else arguments.port
    serve(arguments.exp_dir, arguments.device, port, arguments.threshold)


if __name__ == "__main__":
    run_main(main)
