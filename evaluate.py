"""Score an experiment on the test split of its data folder."""

from lib.cli import experiment_parser, run_main


def main() -> None:
    parser = experiment_parser(
        "Score the best EMA model of an experiment on its data's test split; writes result.txt, "
        "results.json, prediction.txt and scores.npz into the experiment."
    )
    arguments = parser.parse_args()

    from lib.distributed import session
    from lib.evaluation import evaluate

    with session(arguments.device) as world:
        evaluate(
            arguments.exp_dir,
            world,
            threshold=arguments.threshold,
            batch_size=arguments.batch_size,
            workers=arguments.workers,
        )


if __name__ == "__main__":
    run_main(main)
