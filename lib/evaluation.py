"""The scores of an experiment on a split, and the files that hold them.

Shapes: N images, C labels.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lib.bad_images import BadImages, without_unread
from lib.distributed import World
from lib.engine import Prediction
from lib.experiment import Experiment
from lib.files import staged_folder, write_json, write_npz, write_text
from lib.localization import Localization
from lib.manifest import DataFolder, Split
from lib.metrics import average_precision, threshold_f1, topk_f1
from lib.predictor import Predictor
from lib.progress import say


def evaluate(
    exp_dir: str | Path,
    world: World,
    *,
    threshold: float | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    max_bad_images: int | None = None,
) -> dict[str, Any]:
    """Score an experiment on its data's test split; the first process of `world` writes it there.

    None stands for what the experiment was trained with. Gives `compute_results`, with those of
    `Localization` where boxes are known, and the `skipped` images where there were some.
    """
    with world.together():
        predictor = Predictor(exp_dir, world=world)
        config, labels = predictor.config, predictor.labels
        data = DataFolder.open(config.data)
        data.require_labels(labels, str(exp_dir))
        split, boxes = data.split("test"), data.boxes()
        known = boxes is not None
        heatmaps = Localization(split, labels, boxes, predictor.grid) if known else None
    bad_images = BadImages(config.max_bad_images if max_bad_images is None else max_bad_images)
    stream = predictor.stream(split, batch_size, workers, bad_images.meet)
    scores, read = collect(stream, split.targets.shape, heatmaps)
    bad_images.agree(world)
    world.merge_(scores, read, *([heatmaps.found] if heatmaps else []))
    with world.together():
        split = without_unread(split, read)
        threshold = config.threshold if threshold is None else threshold
        results = compute_results(scores, split, labels, threshold=threshold, topk=config.topk)
        if heatmaps:
            results |= heatmaps.results(split.ignore)
        if bad_images.reasons:
            results["skipped"] = [split.paths[row] for row in np.flatnonzero(read == 0)]
        if world.is_first:
            write_results(predictor.experiment, results, scores, split, labels, config.topk)
    say(results_table(results).rstrip())
    for line in bad_images.summary():
        say(line)
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
) -> None:
    """Write `result.txt`, `results.json`, `prediction.txt` and `scores.npz`, all or none."""
    lines = []
    for path, row in zip(split.paths, scores, strict=True):
        best = np.argsort(-row, kind="stable")[:topk]
        lines.append(f"{path}\t{','.join(labels[column] for column in best)}\n")
    with staged_folder(experiment.path) as stage:
        write_text(stage / "result.txt", results_table(results))
        write_json(stage / "results.json", results)
        write_text(stage / "prediction.txt", "".join(lines))
        write_npz(
            stage / "scores.npz",
            scores=scores,
            targets=split.targets,
            ignore=split.ignore,
            paths=np.array(split.paths),
            labels=np.array(labels),
        )


def _row(item: tuple[str, float]) -> str:
    return f"{item[0]:<15}\t{item[1]:.3f}"
