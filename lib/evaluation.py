"""The scores of an experiment on a split, and the files that hold them.

Shapes: N images, C labels.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lib.engine import Prediction
from lib.experiment import Experiment
from lib.files import staged_folder, write_json, write_npz, write_text
from lib.manifest import Split
from lib.metrics import average_precision, threshold_f1, topk_f1


def scores_and_peaks(
    predictions: Iterator[Prediction], shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Scores (N, C) float32 and the row-major patch (N, C) where each heatmap is largest."""
    scores, peaks = np.zeros(shape, np.float32), np.zeros(shape, np.int64)
    for prediction in predictions:
        scores[prediction.index] = prediction.scores[0]
        peaks[prediction.index] = prediction.attention[0].argmax(dim=-1).cpu().numpy()
    return scores, peaks


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
    scores = {name: value for name, value in results.items() if name != "per_label"}
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
