"""Score an experiment on the test split of its data folder."""

from lib.cli import experiment_parser, run_main


def main() -> None:
    parser = experiment_parser(
        "Score the best EMA model of an experiment on its data's test split; writes result.txt, "
        "results.json, prediction.txt and scores.npz into the experiment."
    )
    arguments = parser.parse_args()

    from lib.evaluation import compute_results, results_table, scores_and_peaks, write_results
    from lib.localization import pointing_accuracy
    from lib.manifest import DataFolder
    from lib.predictor import Predictor
    from lib.progress import say

    predictor = Predictor(arguments.exp_dir, arguments.device)
    config, labels = predictor.config, predictor.labels
    data = DataFolder.open(config.data)
    data.require_labels(labels, arguments.exp_dir)
    split, boxes = data.split("test"), data.boxes()

    stream = predictor.stream(split, arguments.batch_size, arguments.workers)
    scores, peaks = scores_and_peaks(stream, split.targets.shape)
    threshold = config.threshold if arguments.threshold is None else arguments.threshold
    results = compute_results(scores, split, labels, threshold=threshold, topk=config.topk)
    if boxes is not None:
        results["pointing_accuracy"] = pointing_accuracy(
            peaks, predictor.model.grid, split, labels, boxes
        )
    write_results(predictor.experiment, results, scores, split, labels, config.topk)
    say(results_table(results).rstrip())


if __name__ == "__main__":
    run_main(main)
