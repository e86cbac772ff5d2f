"""The worst mistakes of an evaluated experiment, as thumbnails inside the page."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from lib.reports.results import Scores
from lib.reports.thumbnails import data_uri, thumbnail
from lib.scoring import mistakes


class Example(NamedTuple):
    """An image with a mistake: `thumbnail` is a data URI, `truth` names its labels."""

    path: str
    thumbnail: str
    label: str
    score: float
    truth: str


class Examples(NamedTuple):
    """Images with one kind of mistake, of `total` such images; `gone` could not be read."""

    title: str
    kind: str
    total: int
    shown: list[Example]
    gone: int


def worst_examples(stored: Scores, verdicts: mistakes.Verdicts, limit: int) -> Iterator[Examples]:
    """The worst mistakes of both kinds; images that cannot be read are replaced by the next."""
    for title, kind, marks, entries in (
        ("False alarms with the highest scores", "false", verdicts.false_alarm,
         mistakes.worst_false_alarms(stored.scores, verdicts.false_alarm)),
        ("Positives with the lowest scores", "missed", verdicts.missed,
         mistakes.worst_missed(stored.scores, verdicts.missed)),
    ):  # fmt: skip
        shown: list[Example] = []
        gone = 0
        for entry in entries:
            if len(shown) == limit:
                break
            path = stored.paths[entry.row]
            image = thumbnail(path)
            if image is None:
                gone += 1
                continue
            present = np.flatnonzero((stored.targets * ~stored.ignore)[entry.row])
            truth = ", ".join(stored.labels[column] for column in present)
            label = stored.labels[entry.column]
            shown.append(Example(path, data_uri(image), label, entry.score, truth))
        yield Examples(title, kind, int(marks.any(axis=1).sum()), shown, gone)
