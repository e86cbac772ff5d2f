"""The card of an exported model, as the Hugging Face Hub shows it: Markdown with a YAML head.

Its text is `lib/common/templates/model_card.md`. Shapes: C labels.
"""

import re
import shlex
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from lib.common.cli import HUB
from lib.common.html import render
from lib.common.text import escape_controls
from lib.reports.results import Evaluated
from lib.scoring import bootstrap
from lib.scoring.calibration import calibration_error
from lib.scoring.metrics import average_precision

FEW_POSITIVES = 20
RESAMPLES = 500
SCORES = {
    "mAP": "mAP",
    "threshold_cf1": "CF1, labels from a score of {threshold:g}",
    "threshold_of1": "OF1, labels from a score of {threshold:g}",
    "topk_cf1": "CF1, top {topk}",
    "topk_of1": "OF1, top {topk}",
}
METRICS = {"mAP": "mean_average_precision", "threshold_of1": "f1"}  # in the head
SHOWS = {
    "evidence": "the patches of the image that each label's score comes from",
    "attention": "where each label looked in the image",
}


def model_card(
    run: Evaluated,
    *,
    name: str,
    precision: str,
    heatmap: str,
    licence: str | None,
    pictures: list[str],
) -> str:
    """The text of `README.md` for the model `name` of an evaluated experiment.

    `precision` says in a sentence how weights are stored, `heatmap` which map the model shows by
    default; `pictures` are file names beside the card. `run` has the configuration of the
    checkpoint, and notes of its evaluation.
    """
    stored, evaluation = run.stored, run.results["evaluation"]
    names = {key: words.format_map(evaluation) for key, words in SCORES.items()}
    positives = (stored.targets * ~stored.ignore).sum(axis=0).tolist()  # of each label
    precisions = average_precision(*stored.arrays).tolist()
    labels = list(zip(stored.labels, precisions, positives, strict=True))
    return render(
        "model_card.md",
        head=_head(run, names, name.removeprefix(HUB), licence),
        plain=_plain,
        title=name.removeprefix(HUB),
        name=name,
        quoted_name=shlex.quote(name),
        config=run.config,
        shows=SHOWS[heatmap],
        precision=precision,
        pictures=pictures,
        images=len(stored.scores),
        data=evaluation["data"],
        scores=_scores(run, names, heatmap),
        labels=labels,
        few=FEW_POSITIVES,
        rare=[_plain(label) for label, _, count in labels if count < FEW_POSITIVES],
        error=calibration_error(*stored.arrays),
        calibrated_error=run.results.get("ece_calibrated"),
        **_training(run),
    )


def _head(run: Evaluated, names: dict[str, str], title: str, licence: str | None) -> str:
    data = run.results["evaluation"]["data"]
    results = [
        EvalResult(
            task_type="image-classification",
            task_name="multi-label image classification",
            dataset_type=data,
            dataset_name=data,
            dataset_split="test",
            metric_type=kind,
            metric_name=names[key],
            metric_value=round(run.results[key], 4),
        )
        for key, kind in METRICS.items()
    ]
    return ModelCardData(
        model_name=title,
        license=licence,
        library_name="pytorch",
        pipeline_tag="image-classification",
        tags=["multi-label-image-classification", "heatmaps", "sgre"],
        datasets=[data],
        metrics=list(METRICS.values()),
        eval_results=results,
    ).to_yaml()


def _scores(run: Evaluated, names: dict[str, str], heatmap: str) -> list[tuple[str, float, str]]:
    """The rows of the table: a score, its value, and its interval if it has one."""
    stored = run.stored
    counts = bootstrap.resample_counts(len(stored.scores), RESAMPLES, seed=0)
    resampled = bootstrap.resampled_average_precision(*stored.arrays, counts)
    low, high = bootstrap.interval(bootstrap.resampled_mean(resampled), run.results["mAP"])
    spans = {"mAP": f"{low:.4f} to {high:.4f}"}
    rows = [(words, run.results[key], spans.get(key, "")) for key, words in names.items()]
    located = run.localization.get(heatmap, {})
    for key, words in (("pointing_accuracy", "pointing accuracy"), ("corloc", "CorLoc")):
        if key in located:
            rows.append((f"{words} of the heatmaps ({heatmap})", located[key], ""))
    return rows


def _training(run: Evaluated) -> dict[str, Any]:
    """The command and the package versions in the log of the training; None where these are not
    known."""
    log = run.path / "train.log"
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    command, versions = (
        re.search(f"^{key}: (.*)", text, re.MULTILINE) for key in ("command", "versions")
    )
    if command is None:
        return {"command": None, "versions": None}
    return {
        "command": escape_controls(
            re.sub(r"^python \S*train\.py", "python train.py", command[1])
        ).replace("```", ""),
        "versions": versions and versions[1],
    }


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    text = escape_controls(text)
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in text)
