"""`infer.py --skip-done`: the images that earlier runs have tagged, in `done.jsonl`."""

import collections
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from lib.common.errors import UserError, writing
from lib.common.files import append_line
from lib.common.readers import numbered_lines
from lib.common.text import escape_controls
from lib.data.bad_images import Unreadable
from lib.data.folder import Split
from lib.inference.visualize import Shown

DONE = "done.jsonl"
PART = 1000  # images that are tagged before the next ones are begun; all a killed run can lose


class Record(msgspec.Struct, frozen=True):
    """A tagged image: what `model`, a hash of its weights, `predicted` for `output`, a choice of
    `--format` or none. Size and modification time are those of the file before it was read."""

    path: str
    bytes: int
    modified_ns: int
    model: str
    output: str
    predicted: list[dict[str, Any]]


class Done:
    """Which of `paths` were tagged by `model` for `output`, and have not changed since.

    `predicted` are their labels, by path. Raises `UserError` if `folder`/done.jsonl is damaged.
    """

    def __init__(self, folder: Path, paths: Sequence[str], model: str, output: str) -> None:
        self.file, self.model, self.output = folder / DONE, model, output
        self.predicted: dict[str, list[dict[str, Any]]] = {}
        self._keys = {path: _key(path) for path in paths}
        by_key = {key: path for path, key in self._keys.items()}
        for number, line in numbered_lines(self.file) if self.file.exists() else ():
            try:
                record = msgspec.json.decode(line, type=Record)
            except msgspec.DecodeError as error:
                raise UserError(
                    f"{self.file}:{number}: not the record of a tagged image; remove this line"
                ) from error
            path = by_key.get((record.path, record.bytes, record.modified_ns))
            if path is not None and (record.model, record.output) == (model, output):
                self.predicted[path] = record.predicted

    def missing(self) -> list[int]:
        """The places in `paths` of the images that are not tagged yet."""
        return [place for place, path in enumerate(self._keys) if path not in self.predicted]

    def lines(self) -> Iterator[dict[str, Any]]:
        """What is known of `paths`, in their order, as lines of `predictions.jsonl`."""
        for path in self._keys:
            if path in self.predicted:
                yield {"path": path, "predicted": self.predicted[path]}

    def add(self, path: str, predicted: list[dict[str, Any]]) -> None:
        """Record that an image is tagged."""
        self.predicted[path] = predicted
        record = Record(*self._keys[path], self.model, self.output, predicted)
        with writing(self.file):
            self.file.parent.mkdir(parents=True, exist_ok=True)
        append_line(self.file, msgspec.json.encode(record).decode())


def draw_in_parts(draw: Callable[[Split], Shown], split: Split) -> Shown:
    """`draw` the images of `split`, `PART` after `PART`, so that each is recorded soon."""
    pictures, unreadable, verdicts = 0, [], collections.Counter[str]()
    for start in range(0, len(split), PART):
        shown = draw(split.rows(range(len(split))[start : start + PART]))
        pictures += shown.pictures
        verdicts += shown.verdicts
        unreadable += [Unreadable(start + row, reason) for row, reason in shown.unreadable]
    return Shown(pictures, verdicts, unreadable)


def _key(path: str) -> tuple[str, int, int]:
    """What tells a file from others, and from what it was before a change."""
    found = os.stat(path)
    return escape_controls(os.path.abspath(path)), found.st_size, found.st_mtime_ns
