"""`report.html`: how good an evaluated experiment is, and where it fails, in one file.

Shapes: N images, C labels, R resamples.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lib.common.console import print_line
from lib.common.html import write_page
from lib.reports import charts
from lib.reports.heatmap_pictures import heatmap_pictures
from lib.reports.results import Evaluated, Scores
from lib.reports.worst_mistakes import worst_examples
from lib.scoring import bootstrap, mistakes
from lib.scoring.calibration import CALIBRATION_BINS, Bins, bin_scores, expected_calibration_error
from lib.scoring.heatmap_examples import load_examples
from lib.scoring.metrics import threshold_f1
from lib.scoring.pr_curves import interpolated_precision, mean_curve
from lib.scoring.tuning import FILE, Cutoffs

HISTOGRAM_BINS = 20
EXTREMES = 3  # labels at either end whose curves are drawn
MATRIX_LABELS = 25
PAIRS = 12
NAMES = {
    "mAP": "mAP",
    "cp": "precision, mean over labels (CP)",
    "cr": "recall, mean over labels (CR)",
    "cf1": "F1 of these (CF1)",
    "op": "precision, pooled (OP)",
    "or": "recall, pooled (OR)",
    "of1": "F1 of these (OF1)",
}

NAMES_OF_FURTHER = {
    "mAP_present": "mAP of labels with positives",
    "ece_calibrated": "calibration error, pooled, with the temperature",
}


class LabelRow(NamedTuple):
    """A label's line in the table: counts and scores, nan where they are not defined."""

    label: str
    positives: int
    precision_average: float
    low: float
    high: float
    precision: float
    recall: float
    f1: float
    calibration_error: float


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
    verdicts = mistakes.verdicts(*stored.arrays, cutoffs.values)
    reliability = bin_scores(*stored.arrays, bins=CALIBRATION_BINS)
    rows = list(_label_rows(stored.labels, curves, resampled, verdicts, reliability))
    summary = stored.summary(run.threshold, run.topk)
    counted = threshold_f1(*stored.arrays, threshold=cutoffs.values).as_dict("counted")
    low, high = bootstrap.interval(bootstrap.resampled_mean(resampled), summary["mAP"])
    pooled = interpolated_precision(*stored.arrays)
    details = _details(stored, curves, pooled, reliability, rows, cutoffs.values)
    found = list(worst_examples(stored, verdicts, examples))
    heatmaps = heatmap_pictures(load_examples(run.path))
    for title, gone in [(part.title, part.gone) for part in heatmaps + found]:
        if gone:
            print_line(f"note: {gone} images of the {title.lower()} are gone: left out")
    file = run.path / "report.html"
    write_page(
        file,
        "report.html",
        title=f"Report on {run.path}",
        facts=_facts(run),
        threshold=run.threshold,
        counted_from=cutoffs.words,
        apart=bool((cutoffs.values != np.float32(run.threshold)).any()),
        topk=run.topk,
        resamples=resamples,
        seed=seed,
        mean_precision=(summary["mAP"], low, high),
        measures=[
            (name, summary[f"threshold_{key}"], summary[f"topk_{key}"], counted[f"counted_{key}"])
            for key, name in NAMES.items()
            if key != "mAP"
        ],
        further=list(_further(run)),
        calibration_errors=_calibration_errors(reliability),
        rows=sorted(rows, key=lambda row: (row.precision_average, row.label)),
        without_positives=sum(row.positives == 0 for row in rows),
        overview=charts.overview_chart(_overview(stored, curves, pooled)),
        details=details,
        detail_charts=charts.score_charts(details[0]["paths"], CALIBRATION_BINS),
        frame=charts,
        matrix=charts.matrix(
            mistakes.count_cooccurrences(verdicts.missed, verdicts.false_alarm),
            stored.labels,
            MATRIX_LABELS,
        ),
        pair_tables=_pair_tables(stored.labels, verdicts),
        examples=found,
        heatmaps=heatmaps,
        localization=run.results.get("localization"),
    )
    return file


def _further(run: Evaluated) -> Iterator[tuple[str, float]]:
    """Values that only evaluate.py has; tuned scores are in the table of thresholds."""
    learned = ("temperature", "ece_calibrated") if (run.path / FILE).is_file() else ()
    for name, value in run.further.items():
        if name in learned or not name.startswith(("tuned_", "temperature", "ece")):
            yield NAMES_OF_FURTHER.get(name, name.replace("_", " ")), value


def _facts(run: Evaluated) -> str:
    stored, config = run.stored, run.config
    parts = [f"{len(stored.scores):,} images", f"{len(stored.labels):,} labels"]
    parts.append(f"{int(stored.targets[~stored.ignore].sum()):,} positives")
    if stored.ignore.any():
        parts.append(f"{int(stored.ignore.sum()):,} entries ignored")
    if config:
        parts.append(f"{config.arch} at {config.img_size} px on {config.data}")
    return ", ".join(parts)


def _calibration_errors(reliability: Bins) -> tuple[float, float]:
    """That of all entries pooled, and the mean over labels that have any; nan without entries."""
    errors = expected_calibration_error(reliability)
    known = errors[~np.isnan(errors)]
    pooled = float(expected_calibration_error(reliability.pooled))
    return pooled, float(known.mean()) if len(known) else float("nan")


def _label_rows(
    labels: Sequence[str],
    curves: Sequence[np.ndarray],
    resampled: np.ndarray,
    verdicts: mistakes.Verdicts,
    reliability: Bins,
) -> Iterator[LabelRow]:
    errors = expected_calibration_error(reliability)
    hits, missed, alarms = (marks.sum(axis=0) for marks in verdicts)
    with np.errstate(invalid="ignore"):
        precision, recall = hits / (hits + alarms), hits / (hits + missed)
        f1 = 2 * hits / (2 * hits + alarms + missed)
    for column, (label, curve) in enumerate(zip(labels, curves, strict=True)):
        average = float(curve.mean()) if len(curve) else 0.0
        yield LabelRow(
            label,
            len(curve),
            average,
            *bootstrap.interval(resampled[column], average),
            *(float(values[column]) for values in (precision, recall, f1, errors)),
        )


def _overview(
    stored: Scores, curves: Sequence[np.ndarray], pooled: np.ndarray
) -> list[tuple[str, str, np.ndarray]]:
    """Name, style and curve: the mean of labels, all entries pooled, the best and worst labels."""
    known = [column for column, curve in enumerate(curves) if len(curve)]
    if not known:
        return []
    lines = [
        ("mean of labels", "mean", mean_curve(curves)[1:]),
        ("all entries pooled", "pooled", pooled),
    ]
    ranked = sorted(known, key=lambda column: -curves[column].mean())
    count = min(EXTREMES, len(ranked) // 2)
    for kind, columns in (("best", ranked[:count]), ("worst", ranked[len(ranked) - count :])):
        for number, column in enumerate(columns, 1):
            name = f"{stored.labels[column]}, AP {curves[column].mean():.3f}"
            lines.append((name, f"{kind} dash{number}", curves[column]))
    return lines


def _details(
    stored: Scores,
    curves: Sequence[np.ndarray],
    pooled: np.ndarray,
    reliability: Bins,
    rows: Sequence[LabelRow],
    cutoffs: np.ndarray,
) -> list[dict[str, Any]]:
    """What the charts of scores show for all entries pooled, and then for each label."""
    histogram = bin_scores(*stored.arrays, bins=HISTOGRAM_BINS)
    error = float(expected_calibration_error(reliability.pooled))
    precision = pooled.mean() if len(pooled) else 0.0
    same = float(cutoffs[0]) if (cutoffs == cutoffs[0]).all() else None
    details = [
        {
            "name": "all labels, pooled",
            "facts": f"AP {precision:.3f}, {len(pooled):,} positives{_ece(error)}",
            "paths": charts.score_paths(pooled, reliability.pooled, histogram.pooled, same),
        }
    ]
    for column, row in enumerate(rows):
        own_bins, own_histogram = (
            Bins(*(array[column] for array in bins)) for bins in (reliability, histogram)
        )
        span = f" ({row.low:.3f} to {row.high:.3f})" if row.positives else ""
        details.append(
            {
                "name": row.label,
                "facts": f"AP {row.precision_average:.3f}{span}, {row.positives:,} positives"
                + _ece(row.calibration_error),
                "paths": charts.score_paths(
                    curves[column], own_bins, own_histogram, float(cutoffs[column])
                ),
            }
        )
    return details


def _ece(error: float) -> str:
    return "" if np.isnan(error) else f", ECE {error:.3f}"


def _pair_tables(
    labels: Sequence[str], verdicts: mistakes.Verdicts
) -> list[tuple[str, str, str, list[tuple[str, str, int, float]]]]:
    """Title, the names of two columns, and rows: the pairs of labels that fail together."""
    missed, alarm = verdicts.missed, verdicts.false_alarm
    kinds = (
        ("Taken for each other", "missed", "false alarm", missed, alarm),
        ("Missed together", "missed", "missed", missed, missed),
        ("False alarms together", "false alarm", "false alarm", alarm, alarm),
    )
    return [
        (
            title,
            one,
            other,
            [
                (labels[pair.first], labels[pair.second], pair.images, pair.expected)
                for pair in mistakes.pairs(first, second, PAIRS)
            ],
        )
        for title, one, other, first, second in kinds
    ]
