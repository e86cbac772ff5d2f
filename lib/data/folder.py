"""Reads and checks the data folder `data/<name>/`: splits and label embeddings.

Shapes: N images of a split, C labels, T text size. Image paths are relative to the working folder,
which is the root of the repository.
"""

import difflib
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.common.arguments import EMBEDDINGS
from lib.common.console import progress_bar
from lib.common.errors import UserError
from lib.common.rank_info import rank_info
from lib.common.readers import read_array, read_json
from lib.data.lists import SPLIT_LINE, read_labels
from lib.data.parsed import open_split
from lib.data.split import Split

DATA_ROOT = Path("data")
SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
# data sets that the script of another year makes
OTHER_YEARS = {"voc2012": "voc2007.py --year 2012", "mscoco2017": "mscoco.py --year 2017"}
FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class DataFolder:
    """An opened data folder; `labels` gives the column order everywhere."""

    path: Path
    labels: list[str]

    @property
    def name(self) -> str:
        return self.path.name

    @classmethod
    def open(cls, data: str) -> "DataFolder":
        """Open the folder that `--data` names."""
        path = folder_of(data)
        if not path.is_dir():
            raise UserError(f"{path}: no such data folder; {_how_to_make(data)}")
        if not (path / "label.txt").is_file():
            raise UserError(f"{path / 'label.txt'}: no such file; {_how_to_make(data)}")
        return cls(path if path.name not in ("", "..") else path.resolve(), read_labels(path))

    def require_labels(self, labels: Sequence[str], source: str) -> None:
        """Raise `UserError` unless the labels are those of the experiment `source`, in order."""
        if list(labels) != self.labels:
            raise UserError(
                f"{source}: was trained on other labels, or in another order, than those in "
                f"{self.path / 'label.txt'}: restore that list, or train again"
            )

    def split(self, name: str) -> Split:
        """Read `<name>.txt` ("train", "val" or "test"), and `ignore.npy` for the test split."""
        file = self.path / f"{name}.txt"
        if not file.exists():
            remedy = {"val": "move some lines of train.txt there, or leave --select-on val out"}
            raise UserError(f"{file}: no such file; {remedy.get(name, SPLIT_LINE)}")
        marks = self.path / "ignore.npy"
        split = open_split(file, self.labels, marks if name == "test" and marks.exists() else None)
        if rank_info().local_rank == 0:  # for all processes of its machine
            check_images(file, split.paths)
        return split

    def label_embeddings(self, kind: str, centered: bool = False) -> np.ndarray:
        """Read `<kind>.npy`, one of `EMBEDDINGS`, -> float32 (C, T); if `centered`, without
        their mean over the labels, and with a standard deviation of 1.

        Text models give the labels of a data set vectors with a large part in common, which says
        nothing about a label.
        """
        file = self.path / f"{kind}.npy"
        if not file.exists():
            raise UserError(
                f"{file}: no such file; make it with: python embedding.py --data {self.path}"
                f"{EMBEDDINGS[kind]}; or pass --embed-type random"
            )
        vectors = read_array(file)
        if vectors.ndim != 2 or len(vectors) != len(self.labels) or not vectors.shape[1]:
            raise UserError(
                f"{file}: has shape {vectors.shape}, expected one row for each of the "
                f"{len(self.labels)} labels"
            )
        if vectors.dtype.kind not in "fiu" or not (np.abs(vectors) < FLOAT32_MAX).all():
            raise UserError(f"{file}: holds values that are not finite numbers (float32)")
        note = file.with_suffix(".json")
        if note.exists() and read_json(note).get("labels_sha256") != labels_hash(self.labels):
            raise UserError(
                f"{note}: was made for another label list than {self.path / 'label.txt'}; make "
                f"{file.name} again"
            )
        vectors = vectors.astype(np.float32)
        if not centered:
            return vectors
        differences = vectors - vectors.mean(axis=0, dtype=np.float64)
        scale = differences.std()
        if not scale > 0:
            raise UserError("--embed-norm center: all labels have the same embedding: leave it out")
        return (differences / scale).astype(np.float32)


def folder_of(data: str) -> Path:
    """`data/<data>`, or `data` itself where it is a path."""
    name = data.rstrip(os.sep)
    return Path(data) if os.sep in name or not name else DATA_ROOT / name


def check_images(file: Path, paths: Sequence[str]) -> None:
    """Raise `UserError` if an image of `file` is missing."""
    missing = missing_images(paths)
    if missing:
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(
            f"{missing[0]}: no such image (listed in {file}){more}; paths are relative to the "
            f"working folder, {os.getcwd()}"
        )


def missing_images(paths: Sequence[str]) -> list[str]:
    """The paths that lead to no file; lists each folder once."""
    listed: dict[str, set[str]] = {}
    missing = []
    for path in progress_bar(paths, "find images", "image", delay=2):
        folder, name = os.path.split(path)
        if folder not in listed:
            try:
                with os.scandir(folder or ".") as entries:
                    listed[folder] = {entry.name for entry in entries if _is_file(entry)}
            except (OSError, ValueError):  # the latter for what can be no path
                listed[folder] = set()
        if name not in listed[folder]:
            missing.append(path)
    return missing


def _is_file(entry: os.DirEntry) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link that leads to itself
        return False


def labels_hash(labels: Sequence[str]) -> str:
    """Identifies a label list, its order included."""
    return hashlib.sha256("\n".join(labels).encode()).hexdigest()


def _how_to_make(data: str) -> str:
    data = data.rstrip(os.sep)
    command = OTHER_YEARS.get(data, f"{data}.py")
    if os.sep not in data and (SCRIPTS / command.split()[0]).exists():
        return f"make it with: python scripts/{command}"
    known = sorted(file.parent.name for file in DATA_ROOT.glob("*/label.txt") if file.is_file())
    close = difflib.get_close_matches(data, known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{hint}see docs/data.md"
