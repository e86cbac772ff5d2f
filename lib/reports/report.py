"""`report.html`: how good an evaluated experiment is, and where it fails, in one file.

Shapes: N images, C labels, R resamples.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lib.common.console import print_line
from lib.common.html import write_page
from lib.reports import charts
from lib.reports.examples import heatmap_pictures, worst_mistakes
from lib.reports.results import Evaluated, Scores
from lib.scoring import bootstrap, mistakes
from lib.scoring.calibration import CALIBRATION_BINS, Bins, bin_scores, expected_calibration_error
from lib.scoring.metrics import f1_scores, summarize
from lib.scoring.pr_curves import interpolated_precision, mean_curve
from lib.scoring.tuning import FILE, Cutoffs

HISTOGRAM_BINS = 20
EXTREMES = 3  # labels at either end whose curves are drawn
MATRIX_LABELS = 25
PAIRS = 12
MEASURES = {
    "cp": "precision, mean over labels (CP)",
    "cr": "recall, mean over labels (CR)",
    "cf1": "F1 of these (CF1)",
    "op": "precision, pooled (OP)",
    "or": "recall, pooled (OR)",
    "of1": "F1 of these (OF1)",
}
FURTHER = {
    "mAP_present": "mAP of labels with positives",
    "ece_calibrated": "calibration error, pooled, with the temperature",
}


def write_report(
    run: Evaluated, *, cutoffs: Cutoffs, resamples: int, seed: int, examples: int
) -> Path:
    """Write `report.html` into the experiment's folder; returns its path.

    Labels count as predicted from `cutoffs` on; their scores are shown beside those of the
    threshold that the run was trained with.
    """
    stored = run.stored
    counts = bootstrap.resample_counts(len(stored.scores), resamples, seed)
    resampled = bootstrap.resampled_average_precision(*stored.arrays, counts)
    curves = [
        interpolated_precision(*(array[:, column] for array in stored.arrays))
        for column in range(len(stored.labels))
    ]
    pooled = interpolated_precision(*stored.arrays)
    verdicts = mistakes.verdicts(*stored.arrays, cutoffs.values)
    reliability = bin_scores(*stored.arrays, bins=CALIBRATION_BINS)
    errors = expected_calibration_error(reliability)
    rows = list(_label_rows(stored.labels, curves, resampled, verdicts, errors))
    summary = summarize(*stored.arrays, threshold=run.threshold, topk=run.topk)
    counted = f1_scores(*stored.arrays, threshold=cutoffs.values).as_dict("counted")
    found = list(worst_mistakes(stored, verdicts, examples))
    heatmaps = list(heatmap_pictures(run.path))
    for part in heatmaps + found:
        if gone := part["gone"]:
            print_line(f"note: {gone} images of the {part['title'].lower()} are gone: left out")
    missed, alarm = verdicts.missed, verdicts.false_alarm
    file = run.path / "report.html"
    write_page(
        file,
        "report.html",
        title=f"Report on {run.path}",
        facts=_facts(run),
        labels=stored.labels,
        threshold=run.threshold,
        counted_from=cutoffs.words,
        apart=bool((cutoffs.values != np.float32(run.threshold)).any()),
        topk=run.topk,
        resamples=resamples,
        seed=seed,
        average=summary["mAP"],
        interval=bootstrap.interval(bootstrap.resampled_mean(resampled), summary["mAP"]),
        measures=[
            (name, summary[f"threshold_{key}"], summary[f"topk_{key}"], counted[f"counted_{key}"])
            for key, name in MEASURES.items()
        ],
        further=list(_further(run)),
        pooled_error=expected_calibration_error(reliability.pooled),
        mean_error=np.mean(errors[~np.isnan(errors)]) if not np.isnan(errors).all() else np.nan,
        rows=sorted(rows, key=lambda row: (row["average"], row["label"])),
        without_positives=sum(row["positives"] == 0 for row in rows),
        overview=_overview(stored, curves, pooled),
        details=_details(stored, curves, pooled, reliability, rows, cutoffs.values),
        calibration_bins=CALIBRATION_BINS,
        layout=charts,
        matrix=charts.matrix(
            mistakes.count_cooccurrences(missed, alarm), stored.labels, MATRIX_LABELS
        ),
        pairs=[
            mistakes.pairs(first, second, PAIRS)
            for first, second in ((missed, alarm), (missed, missed), (alarm, alarm))
        ],
        examples=found,
        heatmaps=heatmaps,
        localization=run.localization,
    )
    return file


def _further(run: Evaluated) -> Iterator[tuple[str, float]]:
    """Values that only evaluate.py has; tuned scores are in the table of thresholds, and those of
    the maps in a table of their own."""
    learned = ("temperature", "ece_calibrated") if (run.path / FILE).is_file() else ()
    for name, value in run.further.items():
        shown = name in learned or not name.startswith(("tuned_", "temperature", "ece"))
        if shown and name in run.results:
            yield FURTHER.get(name, name.replace("_", " ")), value


def _facts(run: Evaluated) -> str:
    stored, config = run.stored, run.config
    parts = [f"{len(stored.scores):,} images", f"{len(stored.labels):,} labels"]
    parts.append(f"{int(stored.targets[~stored.ignore].sum()):,} positives")
    if stored.ignore.any():
        parts.append(f"{int(stored.ignore.sum()):,} entries ignored")
    if config:
        parts.append(f"{config.arch} at {config.img_size} px on {config.data}")
    return ", ".join(parts)


def _label_rows(
    labels: Sequence[str],
    curves: Sequence[np.ndarray],
    resampled: np.ndarray,
    verdicts: mistakes.Verdicts,
    errors: np.ndarray,
) -> Iterator[dict[str, Any]]:
    """The lines of the table of labels: counts and scores, nan where they are not defined."""
    hits, missed, alarms = (marks.sum(axis=0) for marks in verdicts)
    with np.errstate(invalid="ignore"):
        precision, recall = hits / (hits + alarms), hits / (hits + missed)
        f1 = 2 * hits / (2 * hits + alarms + missed)
    for column, (label, curve) in enumerate(zip(labels, curves, strict=True)):
        average = float(curve.mean()) if len(curve) else 0.0
        yield {
            "label": label,
            "positives": len(curve),
            "average": average,
            "interval": bootstrap.interval(resampled[column], average),
            "measures": [values[column] for values in (precision, recall, f1, errors)],
        }


def _overview(
    stored: Scores, curves: Sequence[np.ndarray], pooled: np.ndarray
) -> list[tuple[str, str, str, str]]:
    """The paths of a chart: the mean of labels, all entries pooled, the best and worst labels."""
    known = [column for column, curve in enumerate(curves) if len(curve)]
    if not known:
        return []
    lines = [
        ("mean", mean_curve(curves)[1:], "mean of labels"),
        ("pooled", pooled, "all entries pooled"),
    ]
    ranked = sorted(known, key=lambda column: -curves[column].mean())
    count = min(EXTREMES, len(ranked) // 2)
    for kind, columns in (("best", ranked[:count]), ("worst", ranked[len(ranked) - count :])):
        for number, column in enumerate(columns, 1):
            name = f"{stored.labels[column]}, AP {curves[column].mean():.3f}"
            lines.append((f"{kind} dash{number}", curves[column], name))
    return [(style, charts.curve_path(precision), name, "") for style, precision, name in lines]


def _details(
    stored: Scores,
    curves: Sequence[np.ndarray],
    pooled: np.ndarray,
    reliability: Bins,
    rows: Sequence[dict[str, Any]],
    cutoffs: np.ndarray,
) -> list[dict[str, Any]]:
    """What the charts of scores show for all entries pooled, and then for each label."""
    histogram = bin_scores(*stored.arrays, bins=HISTOGRAM_BINS)

    def detail(name: str, curve, bins: Bins, histogram: Bins, cutoff, span: str = "") -> dict:
        average, error = curve.mean() if len(curve) else 0.0, expected_calibration_error(bins)
        ece = "" if np.isnan(error) else f", ECE {error:.3f}"
        return {
            "name": name,
            "facts": f"AP {average:.3f}{span}, {len(curve):,} positives{ece}",
            "paths": charts.score_paths(curve, bins, histogram, cutoff),
        }

    same = float(cutoffs[0]) if (cutoffs == cutoffs[0]).all() else None
    details = [detail("all labels, pooled", pooled, reliability.pooled, histogram.pooled, same)]
    for column, row in enumerate(rows):
        span = " ({:.3f} to {:.3f})".format(*row["interval"]) if row["positives"] else ""
        own = reliability.of_label(column), histogram.of_label(column), float(cutoffs[column])
        details.append(detail(row["label"], curves[column], *own, span))
    return details
