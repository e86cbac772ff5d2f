"""The card of an exported model, as the Hugging Face Hub shows it: Markdown with a YAML head.

Shapes: N images, C labels.
"""

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import numpy as np
import yaml

from lib.common.cli import HUB
from lib.common.text import escape_controls, table_lines
from lib.reports.results import Evaluated
from lib.scoring import bootstrap
from lib.scoring.calibration import calibration_error
from lib.scoring.metrics import average_precision

FEW_POSITIVES = 20
SCORES = {
    "mAP": "mAP",
    "threshold_cf1": "CF1, labels from a score of {threshold:g}",
    "threshold_of1": "OF1, labels from a score of {threshold:g}",
    "topk_cf1": "CF1, top {topk}",
    "topk_of1": "OF1, top {topk}",
}
PAPER = (
    "Semantic-Guided Representation Enhancement for Multi-Label Image Classification, IEEE "
    "Transactions on Circuits and Systems for Video Technology 34(10), 2024"
)


def model_card(
    run: Evaluated,
    *,
    name: str,
    precision: str,
    heatmap: str,
    licence: str | None = None,
    pictures: list[str] | None = None,
    resamples: int = 500,
    seed: int = 0,
) -> str:
    """The text of `README.md` for the model `name` of an evaluated experiment.

    `precision` says in a sentence how weights are stored, `heatmap` which map the model shows by
    default; `pictures` are file names beside the card. `run` has the configuration of the
    checkpoint, and notes of its evaluation.
    """
    title = f"# {_plain(name.removeprefix(HUB))}"
    lines = ["---", *_head(run, name, licence), "---", "", title, ""]
    lines += [*_summary(run, heatmap), "", precision, ""]
    for picture in pictures or []:
        lines += [f"![A test image with the heatmaps of its labels]({picture})", ""]
    lines += ["## Use", "", *_usage(name), "", "## Scores", ""]
    lines += [*_scores(run, heatmap, resamples, seed), "", "## Labels", ""]
    lines += [*_labels(run), "", "## Training", "", *_training(run), "", "## Limits", ""]
    lines += [*_limits(run), "", "## Citation", "", f"The method: {PAPER}.", ""]
    return "\n".join(lines)


def _head(run: Evaluated, name: str, licence: str | None) -> list[str]:
    data = run.results["evaluation"]["data"]
    results = {
        "task": {"type": "image-classification", "name": "multi-label image classification"},
        "dataset": {"type": data, "name": data, "split": "test"},
        "metrics": [
            {"type": kind, "name": _score_name(run, key), "value": round(run.results[key], 4)}
            for key, kind in (("mAP", "mean_average_precision"), ("threshold_of1", "f1"))
            if key in run.results
        ],
    }
    content: dict[str, Any] = {
        "library_name": "pytorch",
        "pipeline_tag": "image-classification",
        "tags": ["multi-label-image-classification", "heatmaps", "sgre"],
        "datasets": [data],
        "metrics": ["mean_average_precision", "f1"],
        "model-index": [{"name": name.removeprefix(HUB), "results": [results]}],
    }
    if licence:
        content = {"license": licence} | content
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True).rstrip().split("\n")


def _summary(run: Evaluated, heatmap: str) -> Iterator[str]:
    count = len(run.stored.labels)
    made = ""
    if run.config:
        head = "the method below" if run.config.model == "mlic" else f"the head {run.config.model}"
        made = f" {run.config.arch} at {run.config.img_size} px with {head}."
    shows = {
        "evidence": "the patches of the image that each label's score comes from",
        "attention": "where each label looked in the image",
    }[heatmap]
    yield f"Finds which of {count} labels are in an image, and shows {shows}.{made}"


def _usage(name: str) -> Iterator[str]:
    yield "With the code of the project, and its requirements, in the current folder:"
    yield from ("", "```python", "from lib.predictor import Predictor", "")
    yield f'for found in Predictor({json.dumps(name)}).predict(["photo.jpg"]):'
    yield "    print(found)"
    command = f"python infer.py --exp-dir {shlex.quote(name)} --images photo.jpg"
    yield from ("```", "", "```bash", command, "```")


def _scores(run: Evaluated, heatmap: str, resamples: int, seed: int) -> Iterator[str]:
    stored = run.stored
    counts = bootstrap.resample_counts(len(stored.scores), resamples, seed)
    resampled = bootstrap.resampled_average_precision(*stored.arrays, counts)
    low, high = bootstrap.interval(bootstrap.resampled_mean(resampled), run.results["mAP"])
    spans = {"mAP": f"{low:.4f} to {high:.4f}"}
    rows = [
        (_score_name(run, key), f"{run.results[key]:.4f}", spans.get(key, ""))
        for key in SCORES
        if key in run.results
    ]
    located = (run.results.get("localization") or {}).get(heatmap, {})
    for key, words in (("pointing_accuracy", "pointing accuracy"), ("corloc", "CorLoc")):
        if key in located:
            rows.append((f"{words} of the heatmaps ({heatmap})", f"{located[key]:.4f}", ""))
    yield f"On {len(stored.scores):,} test images of {_data(run)}:"
    yield ""
    yield from table_lines(("score", "value", "95 % interval"), rows)


def _labels(run: Evaluated) -> Iterator[str]:
    positives = _positives(run)
    precisions = average_precision(*run.stored.arrays)
    rows = [
        (_plain(label), f"{precision:.3f}" if count else "–", int(count))
        for label, precision, count in zip(run.stored.labels, precisions, positives, strict=True)
    ]
    yield from table_lines(("label", "AP", "test images with it"), rows)


def _training(run: Evaluated) -> Iterator[str]:
    log = run.path / "train.log"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    found = {
        key: line.removeprefix(f"{key}: ")
        for line in lines
        for key in ("command", "versions")
        if line.startswith(f"{key}: ")
    }
    if "command" not in found:
        yield "How it was trained is not recorded."
        return
    command = re.sub(r"^python \S*train\.py", "python train.py", found["command"])
    yield from ("```bash", escape_controls(command).replace("```", ""), "```")
    if "versions" in found:
        yield from ("", f"{_plain(found['versions'])}.")


def _limits(run: Evaluated) -> Iterator[str]:
    stored, config = run.stored, run.config
    rare = [
        _plain(label)
        for label, count in zip(stored.labels, _positives(run), strict=True)
        if count < FEW_POSITIVES
    ]
    if rare:
        yield (
            f"- The AP of labels with fewer than {FEW_POSITIVES} test images says little: "
            f"{', '.join(rare)}."
        )
    error = calibration_error(*stored.arrays)
    yield (
        f"- Scores are no probabilities: the expected calibration error is {error:.3f}"
        + (
            f", and {run.results['ece_calibrated']:.3f} with the temperature of config.json."
            if "ece_calibrated" in run.results
            else "."
        )
    )
    if config and config.select_on == "test":
        yield "- The checkpoint was chosen on the test images, so the scores are a little too high."
    yield f"- All scores are those of {_data(run)}: other images may be harder."
    yield "- It knows the labels above alone: low scores do not say what else is in an image."


def _data(run: Evaluated) -> str:
    return _plain(run.results["evaluation"]["data"])


def _score_name(run: Evaluated, key: str) -> str:
    evaluation = run.results["evaluation"]
    return SCORES[key].format(threshold=evaluation["threshold"], topk=evaluation["topk"])


def _positives(run: Evaluated) -> np.ndarray:
    """Test images with each label (C,)."""
    return (run.stored.targets * ~run.stored.ignore).sum(axis=0)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    text = escape_controls(text)
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in text)
