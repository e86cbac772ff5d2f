"""What is said of a picture: its labels with score and verdict, and which of them are wanted.

Shapes: C labels.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lib.common.errors import UserError
from lib.scoring.tuning import Cutoffs

CORRECT, MISSED, FALSE_ALARM, PREDICTED = "correct", "missed", "false alarm", "predicted"
ERRORS = (MISSED, FALSE_ALARM)


class Tag(NamedTuple):
    """A label of a picture; `verdict` is one of `CORRECT`, `MISSED`, `FALSE_ALARM`, and
    `PREDICTED` where the truth is not known."""

    column: int
    score: float
    verdict: str


@dataclass(frozen=True)
class Selection:
    """Which labels of a picture are wanted, and which pictures.

    Labels: those that reach their cut-off, at most `top` of them, and those that the ground truth
    names; of `columns` alone, where they are given. Pictures: all; with `columns` those with a
    wanted label; with `only_errors` those with a wanted label that is missed or a false alarm.
    """

    cutoffs: Cutoffs
    top: int | None = None
    columns: frozenset[int] | None = None
    only_errors: bool = False

    @property
    def filters(self) -> bool:
        """Whether some pictures may not be wanted."""
        return self.only_errors or self.columns is not None

    def tags(self, scores: np.ndarray, targets: np.ndarray, ignore: np.ndarray) -> list[Tag]:
        """The wanted labels of a picture, the highest score first; the arrays are (C,)."""
        found, left = [], len(scores) if self.top is None else self.top
        for column in np.argsort(-scores, kind="stable").tolist():
            if self.columns is not None and column not in self.columns:
                continue
            predicted = bool(scores[column] >= self.cutoffs.values[column])
            present = None if ignore[column] else bool(targets[column])
            listed = predicted and left > 0
            left -= listed
            if listed or present:
                found.append(Tag(column, float(scores[column]), verdict(predicted, present)))
        return found

    def wants(self, tags: Sequence[Tag]) -> bool:
        """Whether a picture with these tags is wanted."""
        if self.only_errors:
            return any(tag.verdict in ERRORS for tag in tags)
        return bool(tags) or self.columns is None


def verdict(predicted: bool, present: bool | None) -> str:
    """What a label is that is predicted, or present; `present` None: the truth is not known."""
    if present is None:
        return PREDICTED
    if present:
        return CORRECT if predicted else MISSED
    return FALSE_ALARM


def columns_of(names: Sequence[str], labels: Sequence[str]) -> frozenset[int]:
    """The columns of the labels `names`; a `UserError` gives the close ones of an unknown one."""
    for name in names:
        if name not in labels:
            raise UserError(
                f"--labels {name!r}: no label of this experiment; {_hint(name, labels)}"
            )
    return frozenset(labels.index(name) for name in names)


def _hint(name: str, labels: Sequence[str]) -> str:
    folded = {label.casefold(): label for label in labels}
    close = difflib.get_close_matches(name.casefold(), folded, n=3)
    if close:
        return f"did you mean {' or '.join(folded[label] for label in close)}?"
    more = ", ..." if len(labels) > 5 else ""
    return f"its {len(labels)} labels are {', '.join(labels[:5])}{more}"
