"""Score an experiment on the test split of its data folder."""

from lib.cli import experiment_parser, run_main


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
    arguments = parser.parse_args()

    from lib.distributed import session
    from lib.evaluation import evaluate

    with session(arguments.device) as world:
        evaluate(
            arguments.exp_dir,
            world,
            threshold=arguments.threshold,
            tune_thresholds=arguments.tune_thresholds,
            batch_size=arguments.batch_size,
            workers=arguments.workers,
        )


if __name__ == "__main__":
    run_main(main)
