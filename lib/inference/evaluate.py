"""The scores of an experiment on a split, and the files that hold them.

Shapes: N images, C labels.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lib.common.console import print_line, print_note
from lib.common.files import staged_folder, write_json, write_npz, write_text
from lib.data.bad_images import BadImages, without_unread
from lib.data.folder import DataFolder, Split
from lib.experiment.folder import Experiment
from lib.predictor import Predictor
from lib.runtime.world import World
from lib.scoring.calibration import calibrate, calibration_error
from lib.scoring.localization import Localization
from lib.scoring.metrics import average_precision, present_labels, threshold_f1, topk_f1
from lib.scoring.thresholds import Criterion
from lib.scoring.tuning import FILE, SHOWN, Tuning, learn, validation_split
from lib.training.step import Prediction


def evaluate(
    exp_dir: str | Path,
    world: World,
    *,
    threshold: float | None = None,
    tune_thresholds: str | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    max_bad_images: int | None = None,
) -> dict[str, Any]:
    """Score an experiment on its data's test split; the first process of `world` writes it there.

    With `tune_thresholds`, a criterion, thresholds and a temperature are learnt from its data's val
    split first, and written too. None stands for what the experiment was trained with. Gives
    `compute_results` and `further_results`, those of `Localization` where boxes are known, and the
    `skipped` images where there were some.
    """
    with world.raise_on_all_ranks():
        criterion = Criterion.parse(tune_thresholds) if tune_thresholds is not None else None
        predictor = Predictor(exp_dir, world=world)
        config, labels = predictor.config, predictor.labels
        data = DataFolder.open(config.data)
        data.require_labels(labels, str(exp_dir))
        split, boxes = data.split("test"), data.boxes()
        split.require_known()
        known = boxes is not None
        heatmaps = Localization(split, labels, boxes, predictor.grid) if known else None
        held_out = validation_split(data) if criterion else None
        threshold = config.threshold if threshold is None else threshold
        tuning = None if criterion else predictor.tuning()
    bad_images = BadImages(config.max_bad_images if max_bad_images is None else max_bad_images)

    def score(part: Split, heatmaps: Localization | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Scores of all processes together, and which rows there are."""
        stream = predictor.stream(part, batch_size, workers, bad_images.meet)
        scores, read = collect(stream, part.targets.shape, heatmaps)
        bad_images.agree(world)
        world.merge_(scores, read, *([heatmaps.found] if heatmaps else []))
        return scores, read

    if criterion:
        held_out_scores, read = score(held_out)
        with world.raise_on_all_ranks():
            held_out = without_unread(held_out, read)
            tuning = learn(held_out_scores, held_out, labels, criterion, default=threshold)
    scores, read = score(split, heatmaps)
    with world.raise_on_all_ranks():
        split = without_unread(split, read)
        experiment = predictor.experiment
        results = compute_results(scores, split, labels, threshold=threshold, topk=config.topk)
        if heatmaps:
            results |= heatmaps.results(split.ignore)
        results |= further_results(results["per_label"], scores, split, tuning)
        if bad_images.reasons:
            results["skipped"] = [split.paths[row] for row in np.flatnonzero(read == 0)]
        if world.is_main_process:
            learnt = tuning if criterion else None
            write_results(experiment, results, scores, split, labels, config.topk, learnt)
    if criterion:
        file = experiment.path / FILE
        print_note(f"thresholds by {criterion} on {len(held_out)} val images are in {file}")
    for text in _remarks(results, tuning):
        print_note(text)
    print_line(results_table(results).rstrip())
    for line in bad_images.summary():
        print_line(line)
    return results


def collect(
    predictions: Iterator[Prediction], shape: tuple[int, int], heatmaps: Localization | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Scores (N, C) float32 of a stream, whose attention `heatmaps` measures, and which rows it
    has, uint8 (N,); the others are 0."""
    scores, read = np.zeros(shape, np.float32), np.zeros(shape[0], np.uint8)
    for prediction in predictions:
        read[prediction.index] = 1
        scores[prediction.index] = prediction.scores[0]
        if heatmaps:
            heatmaps.measure(prediction.index, prediction.attention[0])
    return scores, read


def compute_results(
    scores: np.ndarray, split: Split, labels: Sequence[str], *, threshold: float, topk: int
) -> dict[str, Any]:
    """All scores of a split: `mAP`, `threshold_*`, `topk_*` and `per_label` {label: AP}."""
    arrays = (scores, split.targets, split.ignore)
    precisions = average_precision(*arrays)
    return {
        "mAP": float(precisions.mean()),
        **threshold_f1(*arrays, threshold=threshold).as_dict("threshold"),
        **topk_f1(*arrays, k=topk, threshold=threshold).as_dict("topk"),
        "per_label": dict(zip(labels, precisions.tolist(), strict=True)),
    }


def further_results(
    per_label: dict[str, float], scores: np.ndarray, split: Split, tuning: Tuning | None
) -> dict[str, Any]:
    """`mAP_present`, the mean AP of the labels that have a positive among the entries that count,
    and `labels_without_positives`; from a `tuning` `tuned_*`, `temperature` and `ece*`.

    The errors of calibration are those of the raw scores and of the calibrated ones.
    """
    arrays = (scores, split.targets, split.ignore)
    present = present_labels(split.targets, split.ignore)
    counted = np.array(list(per_label.values()))[present]
    results: dict[str, Any] = {
        "mAP_present": float(counted.mean()) if len(counted) else 0.0,
        "labels_without_positives": [
            label for label, there in zip(per_label, present, strict=True) if not there
        ],
    }
    if tuning:
        calibrated = calibrate(scores, tuning.temperature)
        results |= {
            **threshold_f1(*arrays, threshold=tuning.thresholds).as_dict("tuned"),
            "temperature": tuning.temperature,
            "ece": calibration_error(*arrays),
            "ece_calibrated": calibration_error(calibrated, *arrays[1:]),
        }
    return results


def results_table(results: dict[str, Any]) -> str:
    """The rows of `result.txt`: the scores, a blank line, and the AP of each label."""
    scores = {name: value for name, value in results.items() if isinstance(value, float)}
    parts = ("\n".join(map(_row, part.items())) for part in (scores, results["per_label"]))
    return "\n\n".join(parts) + "\n"


def write_results(
    experiment: Experiment,
    results: dict[str, Any],
    scores: np.ndarray,
    split: Split,
    labels: Sequence[str],
    topk: int,
    learnt: Tuning | None = None,
) -> None:
    """Write `result.txt`, `results.json`, `prediction.txt`, `scores.npz` with the raw scores, and
    `thresholds.json` where something was learnt, all or none."""
    lines = []
    for path, row in zip(split.paths, scores, strict=True):
        best = np.argsort(-row, kind="stable")[:topk]
        lines.append(f"{path}\t{','.join(labels[column] for column in best)}\n")
    with staged_folder(experiment.path) as stage:
        write_text(stage / "result.txt", results_table(results))
        write_json(stage / "results.json", results)
        if learnt:
            write_json(stage / FILE, learnt.to_dict(labels, experiment.best_checkpoint))
        write_text(stage / "prediction.txt", "".join(lines))
        write_npz(
            stage / "scores.npz",
            scores=scores,
            targets=split.targets,
            ignore=split.ignore,
            paths=np.array(split.paths),
            labels=np.array(labels),
        )


def _remarks(results: dict[str, Any], tuning: Tuning | None) -> Iterator[str]:
    """What the numbers do not say."""
    if absent := results["labels_without_positives"]:
        named = ", ".join(absent[:SHOWN]) + (", ..." if len(absent) > SHOWN else "")
        yield (
            f"{len(absent)} of {len(results['per_label'])} labels have no positive in test.txt, "
            f"which count 0 in mAP and not in mAP_present: {named}"
        )
    if tuning and (fallbacks := tuning.describe_fallbacks()):
        yield fallbacks


def _row(item: tuple[str, float]) -> str:
    return f"{item[0]:<15}\t{item[1]:.3f}"
