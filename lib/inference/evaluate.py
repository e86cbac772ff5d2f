"""`evaluate.py`: the scores of an experiment on a split, and the files that hold them.

Shapes: N images, C labels.
"""

from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from lib.common.console import print_line, print_note
from lib.common.files import file_digest, staged_folder, write_json, write_npz, write_text
from lib.data.bad_images import BadImages, ignore_unread
from lib.data.boxes import read_boxes
from lib.data.folder import DataFolder
from lib.data.split import Split
from lib.predictor import Predictor
from lib.runtime.world import World
from lib.scoring import heatmap_examples
from lib.scoring.calibration import calibrate, calibration_error
from lib.scoring.heatmap_examples import choose_examples
from lib.scoring.localization import Localization
from lib.scoring.metrics import average_precision, f1_scores, summarize
from lib.scoring.thresholds import Criterion
from lib.scoring.tuning import FILE, MAX_LISTED, Tuning, learn, validation_split
from models.heads import ATTENTION, EVIDENCE


def evaluate(flags: Namespace, world: World) -> None:
    """Score an experiment on the test split of its data, or of --data, by the flags of evaluate.py;
    the main process writes the results into its folder.

    With --tune-thresholds, thresholds and a temperature are first learned from its val split, and
    written too.
    """
    with world.raise_on_all_ranks():
        criterion = Criterion.parse(flags.tune_thresholds) if flags.tune_thresholds else None
        predictor = Predictor(
            flags.exp_dir,
            world=world,
            precision=flags.precision,
            batch_size=flags.batch_size,
            workers=flags.workers,
        )
        config, labels = predictor.config, predictor.labels
        folder = DataFolder.open(flags.data or config.data)
        folder.require_labels(labels, str(flags.exp_dir))
    split = world.once_per_machine(lambda: folder.split("test"))
    with world.raise_on_all_ranks():
        split.require_known()
        boxes = read_boxes(folder.path)
        heatmaps = None
        if boxes:
            maps = predictor.model.maps
            heatmaps = Localization(split, labels, boxes, predictor.grid, config.exif, maps)
        held_out = validation_split(folder) if criterion else None
        tuning = None if criterion else predictor.tuning
    threshold = config.threshold if flags.threshold is None else flags.threshold
    most = config.max_bad_images if flags.max_bad_images is None else flags.max_bad_images
    bad_images = BadImages(most)
    if criterion and held_out:
        tuning = _tune(predictor, held_out, bad_images, criterion, threshold)
    scores, read = score_split(predictor, split, bad_images, heatmaps)
    with world.raise_on_all_ranks():
        split = ignore_unread(split, read)
        results = compute_results(
            scores,
            split,
            labels,
            threshold=threshold,
            topk=config.topk,
            localization=heatmaps.results(split.dense()[1]) if heatmaps else {},
            tuning=tuning,
        )
        if bad_images.reasons:
            results["skipped"] = [split.paths[row] for row in np.flatnonzero(read == 0).tolist()]
        results["evaluation"] = {
            "data": folder.path.name,
            "images": int(read.sum()),
            "threshold": threshold,
            "topk": config.topk,
            "precision": predictor.precision,
            "checkpoint_sha256": file_digest(predictor.experiment.best_checkpoint),
        }
        if world.is_main_process:
            learned = tuning if criterion else None
            write_results(predictor, results, scores, split, learned, heatmaps)
    if held_out:
        file = predictor.experiment.path / FILE
        print_note(f"thresholds by {criterion} on {len(held_out)} val images are in {file}")
    if flags.precision:
        print_line(f"precision: {predictor.precision}")
    for text in _warnings(results, tuning):
        print_note(text)
    print_line(results_table(results).rstrip())
    for line in bad_images.summary():
        print_line(line)


def _tune(
    predictor: Predictor,
    held_out: Split,
    bad_images: BadImages,
    criterion: Criterion,
    threshold: float,
) -> Tuning:
    """Thresholds and temperature from held-out images."""
    scores, read = score_split(predictor, held_out, bad_images)
    with predictor.world.raise_on_all_ranks():
        held_out, checkpoint = ignore_unread(held_out, read), predictor.experiment.best_checkpoint
        return learn(scores, held_out, predictor.labels, criterion, checkpoint, default=threshold)


def score_split(
    predictor: Predictor,
    split: Split,
    bad_images: BadImages,
    heatmaps: Localization | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Scores (N, C) of all ranks together, and which rows were read, uint8 (N,).

    `heatmaps` measures the maps on the way.
    """
    scores, read = np.zeros(split.shape, np.float32), np.zeros(len(split), np.uint8)
    for rows, (batch_scores,), (output,) in predictor.stream(split, bad_images):
        scores[rows], read[rows] = batch_scores, 1
        if heatmaps:
            heatmaps.measure(rows, {name: output.heatmaps(name) for name in heatmaps.maps})
    bad_images.merge_ranks(predictor.world)
    for line in bad_images.new_lines():
        print_line(line)
    predictor.world.merge_(scores, read)
    if heatmaps:
        for measured in predictor.world.gather(heatmaps.measured):
            heatmaps.measured |= measured
    return scores, read


def compute_results(
    scores: np.ndarray,
    split: Split,
    labels: Sequence[str],
    *,
    threshold: float,
    topk: int,
    localization: dict[str, dict[str, float]],
    tuning: Tuning | None,
) -> dict[str, Any]:
    """The scores of a split, by name, as `results.json` has them.

    `EPOCH_METRICS` (`mAP`), `threshold_*` and `topk_*`; `per_label` {label: AP}; of a
    `localization`, by map, `pointing_accuracy` and `energy_in_box` of attention, as published, or
    of the only map of a head without. `mAP_present` is the mean AP of the labels with a positive
    among the entries that count, `labels_without_positives` names the others. Of a `tuning`
    `tuned_*`, `temperature`, and the calibration error of the raw scores and of the calibrated
    ones.
    """
    targets, ignore = split.dense()
    arrays = (scores, targets, ignore)
    precisions = average_precision(*arrays)
    present = ((targets == 1) & ~ignore).any(axis=0)
    results: dict[str, Any] = summarize(*arrays, threshold=threshold, topk=topk)
    results["per_label"] = dict(zip(labels, precisions.tolist(), strict=True))
    if localization:
        published = localization.get(ATTENTION) or localization[EVIDENCE]
        results |= {name: published[name] for name in ("pointing_accuracy", "energy_in_box")}
        results["localization"] = localization
    results["mAP_present"] = float(precisions[present].mean()) if present.any() else 0.0
    results["labels_without_positives"] = [
        label for label, there in zip(labels, present, strict=True) if not there
    ]
    if tuning:
        calibrated = calibrate(scores, tuning.temperature)
        results |= {
            **f1_scores(*arrays, threshold=tuning.cutoffs.values).as_dict("tuned"),
            "temperature": tuning.temperature,
            "ece": calibration_error(*arrays),
            "ece_calibrated": calibration_error(calibrated, *arrays[1:]),
        }
    return results


def results_table(results: dict[str, Any]) -> str:
    """The text of `result.txt`: the scores, the AP of each label, and how the heatmaps locate, with
    blank lines between them."""
    scores = {name: value for name, value in results.items() if isinstance(value, float)}
    parts = [
        "\n".join(f"{name:<15}\t{value:.3f}" for name, value in part.items())
        for part in (scores, results["per_label"])
    ]
    if localization := results.get("localization"):
        names = list(next(iter(localization.values())))
        width = max(map(len, localization))
        rows = ["  ".join([" " * width, *names])]
        for name, measured in localization.items():
            cells = (f"{measured[one]:.3f}".rjust(len(one)) for one in names)
            rows.append("  ".join([name.ljust(width), *cells]))
        parts.append("\n".join(rows))
    return "\n\n".join(parts) + "\n"


def write_results(
    predictor: Predictor,
    results: dict[str, Any],
    scores: np.ndarray,
    split: Split,
    learned: Tuning | None,
    heatmaps: Localization | None,
) -> None:
    """Write `result.txt`, `results.json`, `prediction.txt`, `scores.npz` with the raw scores,
    `thresholds.json` if something was learned, and `heatmaps.json` with the images whose `heatmaps`
    tell labels apart best and worst: all of them or none."""
    experiment, labels = predictor.experiment, predictor.labels
    targets, ignore = split.dense()
    lines, examples = [], None
    for path, row in zip(split.paths, scores, strict=True):
        best = np.argsort(-row, kind="stable")[: predictor.config.topk]
        lines.append(f"{path}\t{','.join(labels[column] for column in best)}\n")
    if heatmaps:
        examples = choose_examples(
            heatmaps, ignore, lambda paths: predictor.score(paths, heatmaps.maps)[1]
        )
    with staged_folder(experiment.path, replaces=[heatmap_examples.FILE]) as stage:
        write_text(stage / "result.txt", results_table(results))
        write_json(stage / "results.json", results)
        if learned:
            write_json(stage / FILE, learned.to_dict(experiment.best_checkpoint))
        if examples:
            write_text(stage / heatmap_examples.FILE, msgspec.json.encode(examples).decode())
        write_text(stage / "prediction.txt", "".join(lines))
        write_npz(
            stage / "scores.npz",
            scores=scores,
            targets=targets,
            ignore=ignore,
            paths=np.array(list(split.paths)),
            labels=np.array(labels),
        )


def _warnings(results: dict[str, Any], tuning: Tuning | None) -> Iterator[str]:
    """Warnings about the scores."""
    if absent := results["labels_without_positives"]:
        named = ", ".join(absent[:MAX_LISTED]) + (", ..." if len(absent) > MAX_LISTED else "")
        yield (
            f"{len(absent)} of {len(results['per_label'])} labels have no positive in test.txt, "
            f"which count 0 in mAP and not in mAP_present: {named}"
        )
    if tuning and (fallbacks := tuning.describe_fallbacks()):
        yield fallbacks
