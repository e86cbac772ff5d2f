"""The tags of an image: its labels with score and verdict, and which of them are selected.

Shapes: C labels.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lib.common.errors import UserError
from lib.scoring.mistakes import CORRECT, FALSE_ALARM, MISSED
from lib.scoring.tuning import Cutoffs

PREDICTED = "predicted"  # the verdict if the truth is not known
ERRORS = (MISSED, FALSE_ALARM)


class Tag(NamedTuple):
    """A label of an image; `verdict` is `CORRECT`, `MISSED`, `FALSE_ALARM`, or `PREDICTED` if the
    truth is not known."""

    column: int
    label: str
    score: float
    verdict: str


class TaggedImage(NamedTuple):
    """An image of a split with its selected tags, and the label of its highest score. `page` is its
    entry in `data.js`, empty where no page is made."""

    row: int
    path: str
    tags: list[Tag]
    best: tuple[str, float]
    page: dict[str, Any]

    @property
    def predicted(self) -> list[Tag]:
        """The labels that count as predicted."""
        return [tag for tag in self.tags if tag.verdict != MISSED]


@dataclass(frozen=True)
class Selection:
    """Which of `labels` (C,) are shown of an image, and which images.

    Labels: those that reach their cutoff, at most `top` of them, and those of the ground truth;
    only those named in `only`, if given. Images: all; with `only` those with a selected label; with
    `only_errors` those with a selected label that is missed or a false alarm. Raises `UserError`
    for a name in `only` that is no label.
    """

    labels: Sequence[str]
    cutoffs: Cutoffs
    top: int | None = None
    only: Sequence[str] | None = None
    only_errors: bool = False

    def __post_init__(self) -> None:
        for name in self.only or ():
            if name not in self.labels:
                hint = _hint(name, self.labels)
                raise UserError(f"--labels {name!r}: no label of this experiment; {hint}")

    @property
    def filters(self) -> bool:
        """Whether some images may be left out."""
        return self.only_errors or self.only is not None

    def tags(self, scores: np.ndarray, targets: np.ndarray, ignore: np.ndarray) -> list[Tag]:
        """The selected labels of an image, the highest score first; the arrays are (C,)."""
        found: list[Tag] = []
        left = len(scores) if self.top is None else self.top
        for column in np.argsort(-scores, kind="stable").tolist():
            if self.only is not None and self.labels[column] not in self.only:
                continue
            predicted = bool(scores[column] >= self.cutoffs.values[column])
            present = targets[column] == 1 and not ignore[column]
            listed = predicted and left > 0
            left -= listed
            if present:
                verdict = CORRECT if predicted else MISSED
            elif listed:
                verdict = PREDICTED if ignore[column] else FALSE_ALARM
            else:
                continue
            found.append(Tag(column, self.labels[column], float(scores[column]), verdict))
        return found

    def wants(self, tags: Sequence[Tag]) -> bool:
        """Whether an image with these tags is shown."""
        if self.only_errors:
            return any(tag.verdict in ERRORS for tag in tags)
        return bool(tags) or self.only is None


def _hint(name: str, labels: Sequence[str]) -> str:
    folded = {label.casefold(): label for label in labels}
    close = difflib.get_close_matches(name.casefold(), folded, n=3)
    if close:
        return f"did you mean {' or '.join(folded[label] for label in close)}?"
    more = ", ..." if len(labels) > 5 else ""
    return f"its {len(labels)} labels are {', '.join(labels[:5])}{more}"
