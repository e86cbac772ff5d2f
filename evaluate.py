"""Score an experiment on the test split of its data folder."""

from lib.common.arguments import experiment_parser
from lib.common.cli import non_negative_int, run_main


def main() -> None:
    parser = experiment_parser(
        "Score the best EMA model of an experiment on its data's test split; writes result.txt, "
        "results.json, prediction.txt and scores.npz into the experiment.",
        threshold="as in training, 0.5",
    )
    parser.add_argument(
        "--tune-thresholds",
        metavar="f1|precision@X|recall@X",
        help="learn a threshold for each label, and a temperature, from val.txt first; writes "
        "thresholds.json too, which infer.py then uses",
    )
    parser.add_argument("--data", help="data folder to score on (default: that of the training)")
    parser.add_argument(
        "--max-bad-images",
        type=non_negative_int,
        help="unreadable images that are skipped and listed (default: as in training)",
    )
    arguments = parser.parse_args()

    from lib.inference.evaluate import evaluate
    from lib.runtime.launch import session

    with session(arguments.device) as world:
        evaluate(arguments, world)


if __name__ == "__main__":
    run_main(main)
