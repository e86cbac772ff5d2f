"""Draw the attention heatmaps of an experiment, on its test images or on any others."""

from lib.cli import experiment_parser, positive_int, run_main


def main() -> None:
    parser = experiment_parser(
        "Draw heatmaps of the labels that the model predicts, or the ground truth names, into the "
        "experiment's visualization/: overlays, raw grids (.npz) and index.html."
    )
    parser.add_argument(
        "--images",
        nargs="+",
        metavar="FILE_OR_FOLDER",
        help="pictures to draw (default: the test images of the experiment's data)",
    )
    parser.add_argument("--limit", type=positive_int, help="draw at most so many images")
    arguments = parser.parse_args()

    from lib.inference import find_images, unlabelled, visualize
    from lib.manifest import DataFolder
    from lib.predictor import Predictor
    from lib.progress import say

    predictor = Predictor(arguments.exp_dir, arguments.device)
    config, labels = predictor.config, predictor.labels
    if arguments.images:
        split = unlabelled(find_images(arguments.images), len(labels))
    else:
        data = DataFolder.open(config.data)
        data.require_labels(labels, arguments.exp_dir)
        split = data.split("test")
    threshold = config.threshold if arguments.threshold is None else arguments.threshold
    page = visualize(
        predictor,
        split.head(arguments.limit),
        threshold=threshold,
        batch_size=arguments.batch_size,
        workers=arguments.workers,
    )
    say(f"heatmaps: {page}")


if __name__ == "__main__":
    run_main(main)
