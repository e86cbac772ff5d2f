"""The worst mistakes of an evaluated experiment, as thumbnails inside the page."""

import base64
import io
import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from lib.common.errors import UserError
from lib.data.pictures import read_image
from lib.reports.results import Scores
from lib.scoring import mistakes

THUMBNAIL = 168  # pixels of the longer side


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
            thumbnail = _thumbnail(path)
            if thumbnail is None:
                gone += 1
                continue
            present = np.flatnonzero((stored.targets * ~stored.ignore)[entry.row])
            truth = ", ".join(stored.labels[column] for column in present)
            shown.append(Example(path, thumbnail, stored.labels[entry.column], entry.score, truth))
        yield Examples(title, kind, int(marks.any(axis=1).sum()), shown, gone)


def _thumbnail(path: str) -> str | None:
    """A small, upright copy of an image as a data URI; None if it cannot be read any more."""
    if not os.path.isfile(path):
        return None
    try:
        image = read_image(path)
    except UserError:
        return None
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
