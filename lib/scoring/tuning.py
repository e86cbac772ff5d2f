"""`thresholds.json`: per-label thresholds and a temperature, learned from `val.txt` after training.

Shapes: N images, C labels.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lib.common.errors import UserError
from lib.common.files import file_digest
from lib.common.readers import read_json
from lib.data.folder import DataFolder, Split, labels_hash
from lib.scoring.calibration import calibrate, calibration_error, fit_temperature
from lib.scoring.thresholds import MIN_EXAMPLES, Criterion, tune_thresholds

FILE = "thresholds.json"
TUNED = "tuned"  # the --threshold that asks for them
COMMAND = "python evaluate.py --tune-thresholds f1"
MAX_LISTED = 8


class Tuning(NamedTuple):
    """`thresholds` (C,) are float32, as the raw scores that they apply to. `overall` stands in for
    the labels that `fallbacks` names, each with its reason. `ece` and `ece_calibrated` are those of
    the images that it was learned on."""

    criterion: str
    thresholds: np.ndarray
    overall: float
    fallbacks: dict[str, str]
    temperature: float
    ece: float
    ece_calibrated: float

    def to_dict(self, labels: Sequence[str], checkpoint: Path) -> dict[str, Any]:
        """The content of `thresholds.json`, with what it belongs to."""
        return {
            "criterion": self.criterion,
            "global": self.overall,
            "thresholds": dict(zip(labels, self.thresholds.tolist(), strict=True)),
            "fallbacks": self.fallbacks,
            "temperature": self.temperature,
            "ece": self.ece,
            "ece_calibrated": self.ece_calibrated,
            "labels_sha256": labels_hash(labels),
            "checkpoint_sha256": file_digest(checkpoint),
        }

    def describe_fallbacks(self) -> str:
        """The labels without a threshold of their own, in words; empty where there is none."""
        if not self.fallbacks:
            return ""
        named = [f"{label} ({reason})" for label, reason in self.fallbacks.items()]
        more = f", and {len(named) - MAX_LISTED} more" if len(named) > MAX_LISTED else ""
        return (
            f"{len(named)} of {len(self.thresholds)} labels take the threshold of all, "
            f"{self.overall:.3f}: {', '.join(named[:MAX_LISTED])}{more}"
        )


class Cutoffs(NamedTuple):
    """`values` (C,): the score from which each label counts as predicted; and that in `words`."""

    values: np.ndarray
    words: str

    @classmethod
    def at(cls, score: float, num_labels: int) -> "Cutoffs":
        """The same for all labels."""
        return cls(np.full(num_labels, score, np.float32), f"a score of {score:g}")


def validation_split(data: DataFolder) -> Split:
    """The images to tune on; a `UserError` unless they are apart from those of train and test."""
    file = data.path / "val.txt"
    if not file.is_file():
        raise UserError(
            f"--tune-thresholds: {file}: no such file; neither train nor test will do: move some "
            "lines of train.txt there and train again (the data scripts have --val 0.1 for it)"
        )
    split = data.split("val")
    for name in ("train", "test"):
        if not (data.path / f"{name}.txt").is_file():
            continue
        shared = set(split.paths) & set(data.split(name).paths)
        if shared:
            raise UserError(
                f"--tune-thresholds: {len(shared)} of the {len(split)} images of {file} stand in "
                f"{name}.txt too, {min(shared)} among them: thresholds are learned on others; "
                f"leave them in one of the files"
            )
    return split


def learn(
    scores: np.ndarray,
    split: Split,
    labels: Sequence[str],
    criterion: Criterion,
    *,
    default: float,
) -> Tuning:
    """Thresholds and temperature from the `scores` (N, C) of held-out images.

    Raises `UserError` where all labels together have too few positives or negatives for one.
    """
    arrays = (scores, split.targets, split.ignore)
    positives = int(split.targets[~split.ignore].sum())
    for kind, count in (
        ("positives", positives),
        ("negatives", int((~split.ignore).sum()) - positives),
    ):
        if count < MIN_EXAMPLES:
            raise UserError(
                f"--tune-thresholds: {count} {kind} in val.txt, fewer than {MIN_EXAMPLES}: too few "
                "to learn from: move more of train.txt there, and train again"
            )
    found = tune_thresholds(*arrays, criterion, default=default)
    temperature = fit_temperature(*arrays)
    return Tuning(
        criterion=str(criterion),
        thresholds=found.values.astype(np.float32),
        overall=found.overall,
        fallbacks={labels[column]: reason for column, reason in found.fallbacks.items()},
        temperature=temperature,
        ece=calibration_error(*arrays),
        ece_calibrated=calibration_error(calibrate(scores, temperature), *arrays[1:]),
    )


def load_tuning(folder: Path, labels: Sequence[str], checkpoint: Path) -> Tuning | None:
    """Read `thresholds.json` of an experiment folder, or the `tuning` in the `config.json` beside
    an exported checkpoint; None where there is none.

    Raises `UserError` for one of other labels or another checkpoint, or that holds something else.
    """
    file = folder / FILE
    if file.is_file():
        content: Any = read_json(file)
    elif checkpoint.suffix == ".safetensors":
        file = checkpoint.with_name("config.json")
        content = read_json(file).get("tuning")
    else:
        content = None
    if content is None:
        return None
    if not isinstance(content, dict):
        raise UserError(f"{file}: tuning is no object: export the model again")
    for name, own in (
        ("labels_sha256", labels_hash(labels)),
        ("checkpoint_sha256", file_digest(checkpoint)),
    ):
        if content.get(name) != own:
            raise UserError(
                f"{file}: was learned for other {name.partition('_')[0]} than {checkpoint} has; "
                f"learn it again ({COMMAND}), or remove it"
            )
    values = content.get("thresholds")
    numbers: list[Any] = [content.get(name) for name in ("global", "ece", "ece_calibrated")]
    if isinstance(values, dict) and list(values) == list(labels):
        numbers += values.values()
    temperature: Any = content.get("temperature")
    fallbacks = content.get("fallbacks")
    if (
        len(numbers) < 3 + len(labels)
        or not all(type(number) in (int, float) and 0 <= number <= 1 for number in numbers)
        or not (type(temperature) in (int, float) and 0 < temperature < 1e6)
        or not isinstance(fallbacks, dict)
    ):
        raise UserError(f"{file}: not what evaluate.py writes; learn it again: {COMMAND}")
    return Tuning(
        criterion=str(content.get("criterion")),
        thresholds=np.array(numbers[3:], np.float32),
        overall=numbers[0],
        fallbacks=fallbacks,
        temperature=temperature,
        ece=numbers[1],
        ece_calibrated=numbers[2],
    )


def choose_cutoffs(
    asked: float | str | None,
    tuning: Callable[[], Tuning | None],
    num_labels: int,
    default: float,
) -> Cutoffs:
    """The scores from which labels count as predicted: `asked` for all, or "tuned" ones.

    None takes the tuned ones where there are some, else `default`. Raises `UserError` where there
    are none and "tuned" asks for them.
    """
    known = tuning() if asked is None or asked == TUNED else None
    if known is not None:
        return Cutoffs(known.thresholds, f"tuned thresholds ({known.criterion})")
    if asked == TUNED:
        raise UserError(
            f"--threshold {TUNED}: the experiment has no {FILE} yet; learn it from val.txt: "
            f"{COMMAND}"
        )
    score = float(default if asked is None else asked)
    if not 0 <= score <= 1:
        raise UserError(f"--threshold {score:g}: must be between 0 and 1")
    return Cutoffs.at(score, num_labels)
