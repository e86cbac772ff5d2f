"""The tags of an image: its labels with score and verdict, and which of them are selected.

Shapes: C labels.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lib.common.errors import UserError
from lib.scoring.mistakes import FALSE_ALARM, MISSED, verdicts
from lib.scoring.tuning import Cutoffs

PREDICTED = "predicted"  # the verdict if the truth is not known
ERRORS = (MISSED, FALSE_ALARM)


class Tag(NamedTuple):
    """A label of an image; `verdict` is `CORRECT`, `MISSED`, `FALSE_ALARM`, or `PREDICTED` if the
    truth is not known."""

    column: int
    score: float
    verdict: str


@dataclass(frozen=True)
class Selection:
    """Which labels of an image are shown, and which images.

    Labels: those that reach their threshold, at most `top` of them, and those of the ground truth;
    only those of `columns`, if given. Images: all; with `columns` those with a selected label; with
    `only_errors` those with a selected label that is missed or a false alarm.
    """

    cutoffs: Cutoffs
    top: int | None = None
    columns: frozenset[int] | None = None
    only_errors: bool = False

    @property
    def filters(self) -> bool:
        """Whether some images may be left out."""
        return self.only_errors or self.columns is not None

    def tags(self, scores: np.ndarray, targets: np.ndarray, ignore: np.ndarray) -> list[Tag]:
        """The selected labels of an image, the highest score first; the arrays are (C,)."""
        found: list[Tag] = []
        left = len(scores) if self.top is None else self.top
        judged = verdicts(scores, targets, ignore, self.cutoffs.values)
        for column in np.argsort(-scores, kind="stable").tolist():
            if self.columns is not None and column not in self.columns:
                continue
            predicted = bool(scores[column] >= self.cutoffs.values[column])
            listed = predicted and left > 0
            left -= listed
            present = targets[column] == 1 and not ignore[column]
            if listed or present:
                verdict = judged.name(column) or PREDICTED
                found.append(Tag(column, float(scores[column]), verdict))
        return found

    def wants(self, tags: Sequence[Tag]) -> bool:
        """Whether an image with these tags is shown."""
        if self.only_errors:
            return any(tag.verdict in ERRORS for tag in tags)
        return bool(tags) or self.columns is None


def columns_of(names: Sequence[str], labels: Sequence[str]) -> frozenset[int]:
    """The columns of the labels `names`. Raises `UserError` with close names for an unknown one."""
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
