"""`thresholds.json`: per-label thresholds and a temperature, learned from `val.txt` after training.

Shapes: N images, C labels.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np

from lib.common.errors import UserError
from lib.common.files import file_digest
from lib.common.readers import decode_json
from lib.data.folder import DataFolder, labels_hash
from lib.data.split import Split
from lib.scoring.calibration import calibrate, calibration_error, fit_temperature
from lib.scoring.thresholds import MIN_EXAMPLES, Criterion, tune_thresholds

FILE = "thresholds.json"
TUNED = "tuned"  # the --threshold that asks for them
COMMAND = "python evaluate.py --tune-thresholds f1"
MAX_LISTED = 8

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Tuning(msgspec.Struct, rename={"overall": "global"}):
    """The content of `thresholds.json`. `thresholds` are those of the raw scores, exact in float32,
    in the order of the labels. `overall` is the threshold of the labels in `fallbacks`, each with
    its reason. `ece` and `ece_calibrated` are those of the images that it was learned on. The
    hashes are those of the labels and of the checkpoint that it belongs to."""

    criterion: str
    overall: Share
    thresholds: dict[str, Share]
    fallbacks: dict[str, str]
    temperature: Annotated[float, msgspec.Meta(gt=0, lt=1e6)]
    ece: Share
    ece_calibrated: Share
    labels_sha256: str
    checkpoint_sha256: str

    @property
    def cutoffs(self) -> "Cutoffs":
        """The thresholds as the score from which each label counts as predicted."""
        values = np.array(list(self.thresholds.values()), np.float32)
        return Cutoffs(values, f"tuned thresholds ({self.criterion})")

    def to_dict(self, checkpoint: Path) -> dict[str, Any]:
        """The content of the file, for the model in the file `checkpoint`."""
        return msgspec.to_builtins(self) | {"checkpoint_sha256": file_digest(checkpoint)}

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


class Settings(msgspec.Struct):
    """The part of an exported model's `config.json` that is about thresholds."""

    tuning: Tuning | None = None


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
        shared = set(split.paths).intersection(data.split(name).paths)
        if shared:
            raise UserError(
                f"--tune-thresholds: {len(shared)} of the {len(split)} images of {file} are in "
                f"{name}.txt too, {min(shared)} among them: thresholds are learned on others; "
                f"leave them in one of the files"
            )
    return split


def learn(
    scores: np.ndarray,
    split: Split,
    labels: Sequence[str],
    criterion: Criterion,
    checkpoint: Path,
    *,
    default: float,
) -> Tuning:
    """Thresholds and temperature from the `scores` (N, C) that a checkpoint gives held-out images.

    Raises `UserError` where all labels together have too few positives or negatives for one.
    """
    targets, ignore = split.dense()
    arrays = (scores, targets, ignore)
    positives = int(targets[~ignore].sum())
    negatives = int((~ignore).sum()) - positives
    for kind, count in (("positives", positives), ("negatives", negatives)):
        if count < MIN_EXAMPLES:
            raise UserError(
                f"--tune-thresholds: {count} {kind} in val.txt, fewer than {MIN_EXAMPLES}: too few "
                "to learn from: move more of train.txt there, and train again"
            )
    values, overall, fallbacks = tune_thresholds(*arrays, criterion, default=default)
    temperature = fit_temperature(*arrays)
    return Tuning(
        criterion=str(criterion),
        overall=overall,
        thresholds=dict(zip(labels, values.astype(np.float32).tolist(), strict=True)),
        fallbacks={labels[column]: reason for column, reason in fallbacks.items()},
        temperature=temperature,
        ece=calibration_error(*arrays),
        ece_calibrated=calibration_error(calibrate(scores, temperature), *arrays[1:]),
        labels_sha256=labels_hash(labels),
        checkpoint_sha256=file_digest(checkpoint),
    )


def load_tuning(folder: Path, labels: Sequence[str], checkpoint: Path) -> Tuning | None:
    """Read `thresholds.json` of an experiment folder, or the `tuning` in the `config.json` beside
    an exported checkpoint; None where there is none.

    Raises `UserError` for one of other labels or another checkpoint, or that holds something else.
    """
    file, tuning = folder / FILE, None
    try:
        if file.is_file():
            tuning = decode_json(file, Tuning)
        elif checkpoint.suffix == ".safetensors":
            file = checkpoint.with_name("config.json")
            tuning = decode_json(file, Settings).tuning
    except UserError as error:
        raise UserError(
            f"{error}; learn it again ({COMMAND}), or export the model again"
        ) from error
    if tuning is None:
        return None
    for other, same in (
        ("labels", list(tuning.thresholds) == list(labels)),
        ("checkpoint", tuning.checkpoint_sha256 == file_digest(checkpoint)),
    ):
        if not same:
            raise UserError(
                f"{file}: was learned for other {other} than {checkpoint} has; learn it again "
                f"({COMMAND}), or remove it"
            )
    return tuning


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
        return known.cutoffs
    if asked == TUNED:
        raise UserError(
            f"--threshold {TUNED}: the experiment has no {FILE} yet; learn it from val.txt: "
            f"{COMMAND}"
        )
    score = float(default if asked is None else asked)
    if not 0 <= score <= 1:
        raise UserError(f"--threshold {score:g}: must be between 0 and 1")
    return Cutoffs.at(score, num_labels)
