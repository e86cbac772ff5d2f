"""The scores of an experiment on a split, and the files that hold them.

Shapes: N images, C labels.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from lib.common.console import print_line, print_note
from lib.common.errors import UserError
from lib.common.files import file_digest, staged_folder, write_json, write_npz, write_text
from lib.data.bad_images import BadImages, ignore_unread
from lib.data.folder import DataFolder, Split
from lib.experiment.folder import Experiment
from lib.experiment.predict import Prediction, collect_scores
from lib.predictor import Predictor
from lib.runtime.world import World
from lib.scoring import heatmap_examples
from lib.scoring.calibration import calibrate, calibration_error
from lib.scoring.heatmap_examples import HeatmapExamples
from lib.scoring.localization import Localization
from lib.scoring.metrics import average_precision, present_labels, summarize, threshold_f1
from lib.scoring.thresholds import Criterion
from lib.scoring.tuning import FILE, MAX_LISTED, Tuning, learn, validation_split
from models.output import ATTENTION, EVIDENCE


def evaluate(
    exp_dir: str | Path,
    world: World,
    *,
    data: str | None = None,
    threshold: float | None = None,
    tune_thresholds: str | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    max_bad_images: int | None = None,
    precision: str | None = None,
) -> dict[str, Any]:
    """Score an experiment on the test split of its data, or of `data`; the main process writes the
    results into its folder.

    With `tune_thresholds`, a criterion, thresholds and a temperature are first learned from its
    val split, and written too. None stands for what the experiment was trained with.
    Returns `compute_results` and `further_results`, those of `Localization` if boxes are known,
    the `skipped` images if there are any, and in the main process
    `evaluation`: what was scored, and how.
    """
    with world.raise_on_all_ranks():
        criterion = Criterion.parse(tune_thresholds) if tune_thresholds is not None else None
        predictor = Predictor(exp_dir, world=world, precision=precision)
        config, labels = predictor.config, predictor.labels
        folder = DataFolder.open(data or config.data)
        folder.require_labels(labels, str(exp_dir))
        split, boxes = folder.split("test"), folder.boxes()
        split.require_known()
        heatmaps = None
        if boxes is not None:
            heatmaps = Localization(
                split, labels, boxes, predictor.grid, config.exif, predictor.model.maps
            )
        held_out = validation_split(folder) if criterion else None
        threshold = config.threshold if threshold is None else threshold
        tuning = None if criterion else predictor.tuning()
    bad_images = BadImages(config.max_bad_images if max_bad_images is None else max_bad_images)

    if criterion and held_out:
        scores, read = score_split(predictor, held_out, bad_images, None, batch_size, workers)
        with world.raise_on_all_ranks():
            held_out = ignore_unread(held_out, read)
            tuning = learn(scores, held_out, labels, criterion, default=threshold)
    scores, read = score_split(predictor, split, bad_images, heatmaps, batch_size, workers)
    with world.raise_on_all_ranks():
        split = ignore_unread(split, read)
        results = compute_results(scores, split, labels, threshold=threshold, topk=config.topk)
        if heatmaps:
            results |= localization_results(heatmaps.results(split.ignore))
        results |= further_results(results["per_label"], scores, split, tuning)
        if bad_images.reasons:
            results["skipped"] = [split.paths[row] for row in np.flatnonzero(read == 0)]
        if world.is_main_process:
            results["evaluation"] = {
                "data": folder.path.name,
                "images": int(read.sum()),
                "threshold": threshold,
                "topk": config.topk,
                "precision": predictor.precision,
                "checkpoint_sha256": file_digest(predictor.experiment.best_checkpoint),
            }
            learned = tuning if criterion else None
            examples = draw_examples(predictor, heatmaps, split, batch_size) if heatmaps else None
            write_results(
                predictor.experiment, results, scores, split, labels, config.topk, learned, examples
            )
    if held_out:
        file = predictor.experiment.path / FILE
        print_note(f"thresholds by {criterion} on {len(held_out)} val images are in {file}")
    if precision:
        print_line(f"precision: {predictor.precision}")
    for text in _remarks(results, tuning):
        print_note(text)
    print_line(results_table(results).rstrip())
    for line in bad_images.summary():
        print_line(line)
    return results


def score_split(
    predictor: Predictor,
    split: Split,
    bad_images: BadImages,
    heatmaps: Localization | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Scores (N, C) of all ranks together, and which rows were read, uint8 (N,).

    `heatmaps` measures the maps on the way.
    """
    stream = predictor.stream(split, bad_images, batch_size, workers)
    if heatmaps:
        stream = _measure_heatmaps(stream, heatmaps)
    scores, read = collect_scores(stream, (1, *split.targets.shape))
    bad_images.merge_ranks(predictor.world)
    for line in bad_images.new_lines():
        print_line(line)
    found = [heatmaps.of_labels, heatmaps.of_pairs] if heatmaps else []
    predictor.world.merge_(scores, read, *found)
    return scores[0], read


def _measure_heatmaps(stream: Iterator[Prediction], heatmaps: Localization) -> Iterator[Prediction]:
    for prediction in stream:
        output = prediction.outputs[0]
        maps = {name: output.heatmaps(name) for name in heatmaps.maps}
        heatmaps.measure(prediction.rows, maps)
        yield prediction


def draw_examples(
    predictor: Predictor, heatmaps: Localization, split: Split, batch_size: int | None
) -> HeatmapExamples | None:
    """The images whose heatmaps tell labels apart best and worst, with these heatmaps; None if no
    image has boxes of two labels, or if one cannot be read any more."""
    rows = heatmap_examples.choose_rows(heatmaps, split.ignore)
    if not any(rows):
        return None
    again = [row for part in rows for row in part]
    found: dict[int, np.ndarray] = {}
    step = batch_size or predictor.config.eval_batch_size
    for start in range(0, len(again), step):
        part = again[start : start + step]
        try:
            _, grids = predictor.score([split.paths[row] for row in part], heatmaps.maps)
        except UserError as error:
            print_note(f"no examples of heatmaps: {error}")
            return None
        found.update(zip(part, grids, strict=True))
    return heatmap_examples.make_examples(heatmaps, predictor.labels, rows, found)


def localization_results(localization: dict[str, dict[str, float]]) -> dict[str, Any]:
    """`localization`, by map; and `pointing_accuracy` and `energy_in_box` of attention, as
    published, or of the only map of a head without."""
    if not localization:
        return {}
    published = localization.get(ATTENTION) or localization[EVIDENCE]
    names = ("pointing_accuracy", "energy_in_box")
    return {name: published[name] for name in names} | {"localization": localization}


def compute_results(
    scores: np.ndarray, split: Split, labels: Sequence[str], *, threshold: float, topk: int
) -> dict[str, Any]:
    """All scores of a split: `EPOCH_METRICS` (`mAP`), `threshold_*`, `topk_*`, and `per_label`
    {label: AP}."""
    arrays = (scores, split.targets, split.ignore)
    precisions = average_precision(*arrays)
    return {
        **summarize(*arrays, threshold=threshold, topk=topk),
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
    """The text of `result.txt`: the scores, the AP of each label, and how the heatmaps locate, with
    blank lines between them."""
    scores = {name: value for name, value in results.items() if isinstance(value, float)}
    parts = ["\n".join(map(_row, part.items())) for part in (scores, results["per_label"])]
    if localization := results.get("localization"):
        parts.append("\n".join(_localization_rows(localization)))
    return "\n\n".join(parts) + "\n"


def _localization_rows(localization: dict[str, dict[str, float]]) -> Iterator[str]:
    """A table: a row for each map, a column for each measure."""
    names = list(next(iter(localization.values())))
    width = max(map(len, localization))
    yield "  ".join([" " * width, *names])
    for name, measured in localization.items():
        cells = (f"{measured[one]:.3f}".rjust(len(one)) for one in names)
        yield "  ".join([name.ljust(width), *cells])


def write_results(
    experiment: Experiment,
    results: dict[str, Any],
    scores: np.ndarray,
    split: Split,
    labels: Sequence[str],
    topk: int,
    learned: Tuning | None = None,
    examples: HeatmapExamples | None = None,
) -> None:
    """Write `result.txt`, `results.json`, `prediction.txt`, `scores.npz` with the raw scores,
    `thresholds.json` if something was learned, and `heatmaps.json` of the `examples`: all of them
    or none."""
    lines = []
    for path, row in zip(split.paths, scores, strict=True):
        best = np.argsort(-row, kind="stable")[:topk]
        lines.append(f"{path}\t{','.join(labels[column] for column in best)}\n")
    with staged_folder(experiment.path, replaces=[heatmap_examples.FILE]) as stage:
        write_text(stage / "result.txt", results_table(results))
        write_json(stage / "results.json", results)
        if learned:
            write_json(stage / FILE, learned.to_dict(labels, experiment.best_checkpoint))
        if examples:
            write_text(stage / heatmap_examples.FILE, msgspec.json.encode(examples).decode())
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
    """Notes on what the numbers do not show."""
    if absent := results["labels_without_positives"]:
        named = ", ".join(absent[:MAX_LISTED]) + (", ..." if len(absent) > MAX_LISTED else "")
        yield (
            f"{len(absent)} of {len(results['per_label'])} labels have no positive in test.txt, "
            f"which count 0 in mAP and not in mAP_present: {named}"
        )
    if tuning and (fallbacks := tuning.describe_fallbacks()):
        yield fallbacks


def _row(item: tuple[str, float]) -> str:
    return f"{item[0]:<15}\t{item[1]:.3f}"
