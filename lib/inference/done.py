"""`infer.py --skip-done`: the images that earlier runs have tagged, in `done.jsonl`."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from lib.common.errors import UserError, writing
from lib.common.files import write_all
from lib.common.locks import lock_file
from lib.common.text import escape_controls
from lib.inference.gallery import prediction
from lib.inference.tags import TaggedImage
from lib.runtime.world import World

FILE = "done.jsonl"
TAGS = "tags"  # the output without a --format: lines of predictions.jsonl


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """An image that was tagged by `model`, a hash, for `output`: `TAGS`, with what was `predicted`,
    or a choice of `--format`. Size and modification time are those of the file before it was read.
    """

    path: str
    bytes: int
    modified_ns: int
    model: str
    output: str
    predicted: list[dict[str, Any]] | None = None


Key = tuple[str, int, int]


class DoneImages:
    """Which of `paths` were tagged by `model` for `output`, and have not changed since.

    The main process of `world` reads and writes `folder`/done.jsonl, and locks it while it lives.
    `missing` are the indices of the other `paths`, and `count` the number of those that are done,
    on all ranks; `is_new`: nothing was recorded for `output` before. Raises `UserError` on all
    ranks if the file is damaged, or another process writes to it.
    """

    def __init__(
        self, world: World, folder: Path, paths: Sequence[str], model: str, output: str
    ) -> None:
        self.file, self.paths, self.model, self.output = folder / FILE, paths, model, output
        self._keys: dict[str, Key | None] = {}
        self._predicted: dict[Key | None, list[dict[str, Any]] | None] = {}
        self.is_new = True
        self.missing = world.broadcast_from_main(self._read)
        self.count = len(paths) - len(self.missing)

    def _read(self) -> list[int]:
        self._keys = {path: _key(path) for path in self.paths}
        for record in self._records():
            self.is_new &= record.output != self.output
            if (record.model, record.output) == (self.model, self.output):
                key = record.path, record.bytes, record.modified_ns
                self._predicted[key] = record.predicted
        return [
            index
            for index, path in enumerate(self.paths)
            if self._keys[path] not in self._predicted
        ]

    def _records(self) -> Iterator[Record]:
        """Open and lock the file; its records, without a last line that was cut off."""
        with writing(self.file):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._open: IO[bytes] = open(self.file, "a+b")
            if not lock_file(self._open):
                raise UserError(
                    f"{self.file}: another process tags images with it; wait for it, or end it"
                )
            self._open.seek(0)
            end = 0
            for number, line in enumerate(self._open, 1):
                if not line.endswith(b"\n"):
                    self._open.truncate(end)
                    return
                end += len(line)
                try:
                    yield msgspec.json.decode(line, type=Record)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                    raise UserError(
                        f"{self.file}:{number}: not the record of a tagged image; remove this line"
                    ) from error

    def add(self, tagged: Sequence[TaggedImage]) -> None:
        """Record, on the main process, that images are tagged: all of them, or none on an error."""
        content = b""
        for image in tagged:
            key = self._keys[image.path]
            if key is None:  # it was not there when the run began
                continue
            kept = prediction(image)["predicted"] if self.output == TAGS else None
            self._predicted[key] = kept
            content += msgspec.json.encode(Record(*key, self.model, self.output, kept)) + b"\n"
        with writing(self.file):  # not append_line, which would close the file and end its lock
            write_all(self._open.fileno(), content)

    def lines(self) -> Iterator[dict[str, Any]]:
        """What is known of `paths`, in their order, as lines of `predictions.jsonl`."""
        for path in self.paths:
            if self._keys[path] in self._predicted:
                yield {"path": path, "predicted": self._predicted[self._keys[path]]}


def _key(path: str) -> Key | None:
    """Identifies a file and its version; None if it is gone."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return escape_controls(os.path.abspath(path)), found.st_size, found.st_mtime_ns
