"""The images of a list and their labels, in memory that does not grow with N x C and that data
loading workers share with the process that starts them.

Shapes: N images of a split, C labels, R rows.
"""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from scipy.sparse import csr_array

from lib.common.errors import UserError

CHUNK = 4096  # rows that are handled together
SPARSE = "sparse:"  # begins a digest that was computed without dense rows

Rows = slice | np.ndarray | Sequence[int]


class Paths(Sequence[str]):
    """N paths: path n is the bytes of `block` from `offsets[n]` to `offsets[n + 1]`.

    There is no Python object for each path: its reference count would make every worker copy the
    page that it is on.
    """

    def __init__(self, block: np.ndarray, offsets: np.ndarray) -> None:
        self.block, self.offsets = block, offsets

    @classmethod
    def of(cls, paths: Iterable[str]) -> "Paths":
        """The paths of `paths`."""
        block, offsets = bytearray(), [0]
        for path in paths:
            block += path.encode("utf-8", "surrogateescape")
            offsets.append(len(block))
        return cls(np.frombuffer(block, np.uint8), offsets_array(offsets))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        rows = range(len(self))[row]
        if isinstance(rows, range):
            return [self[one] for one in rows]
        return self._between(self.offsets[rows], self.offsets[rows + 1])

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), CHUNK):
            offsets = self.offsets[start : start + CHUNK + 1].tolist()
            yield from itertools.starmap(self._between, itertools.pairwise(offsets))

    def _between(self, start: int, stop: int) -> str:
        return self.block[start:stop].tobytes().decode("utf-8", "surrogateescape")

    def head(self, count: int) -> "Paths":
        """The first `count` paths."""
        offsets = self.offsets[: count + 1]
        return Paths(self.block[: offsets[-1]], offsets)


@dataclass(frozen=True, eq=False)
class Split:
    """One list of images.

    `positives` and `unknown` are sparse (N, C) uint8 with 1 for the entries that they mark, sorted
    within a row: the labels of each image, and the entries that take no part in loss and metrics.
    Nor does any entry of an image that `unlabelled` (N,) bool marks.
    """

    name: str
    paths: Paths
    positives: csr_array
    unknown: csr_array
    unlabelled: np.ndarray

    @classmethod
    def from_dense(
        cls, name: str, paths: Iterable[str], targets: np.ndarray, ignore: np.ndarray
    ) -> "Split":
        """A small split from arrays (N, C): `targets` of 0 and 1, `ignore` bool."""
        positives, unknown = (csr_array(one.astype(np.uint8)) for one in (targets, ignore))
        return cls(name, Paths.of(paths), positives, unknown, np.zeros(len(targets), bool))

    @classmethod
    def without_labels(cls, name: str, paths: Iterable[str], num_labels: int) -> "Split":
        """Images without any known label."""
        found = Paths.of(paths)
        nothing = csr_array((len(found), num_labels), dtype=np.uint8)
        return cls(name, found, nothing, nothing, np.ones(len(found), bool))

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def shape(self) -> tuple[int, int]:
        """(N, C)."""
        return self.positives.shape

    def targets_of(self, rows: int | Rows) -> np.ndarray:
        """The labels of a row (C,), or of several (R, C): uint8 of 0 and 1."""
        return _dense(self.positives, rows)

    def ignore_of(self, rows: int | Rows) -> np.ndarray:
        """Which entries of a row (C,), or of several (R, C), take no part in loss and metrics."""
        return _dense(self.unknown, rows).astype(bool) | self.unlabelled[rows][..., None]

    def labels_of(self, row: int) -> np.ndarray:
        """The labels (L,) that an image is known to have, in column order."""
        if self.unlabelled[row]:
            return np.zeros(0, np.int32)
        return np.setdiff1d(_columns(self.positives, row), _columns(self.unknown, row))

    def dense(self) -> tuple[np.ndarray, np.ndarray]:
        """The targets (N, C) uint8 and `ignore` (N, C) bool of a small split."""
        everything = slice(None)
        return self.targets_of(everything), self.ignore_of(everything)

    @property
    def has_known(self) -> bool:
        """Whether any label of any image is known."""
        return bool((~self.unlabelled & (np.diff(self.unknown.indptr) < self.shape[1])).any())

    def require_known(self) -> None:
        """Raise `UserError` if no label of any image is known, so that nothing can be measured."""
        if not self.has_known:
            raise UserError(
                f"{self.name}.txt: no label of any image is known (all are ?label, or marked in "
                "ignore.npy): nothing can be measured on it"
            )

    def head(self, count: int | None) -> "Split":
        """The first `count` images; all of them for None."""
        if count is None or count >= len(self):
            return self
        marks = self.positives[:count], self.unknown[:count]
        return Split(self.name, self.paths.head(count), *marks, self.unlabelled[:count])

    def without(self, rows: np.ndarray) -> "Split":
        """With all entries ignored of the images that `rows` (N,) bool marks."""
        unlabelled = self.unlabelled | rows
        return Split(self.name, self.paths, self.positives, self.unknown, unlabelled)

    @property
    def digest(self) -> str:
        """A hash of all that the split holds."""
        content = hashlib.sha256(repr(self.shape).encode())
        content.update(self.paths.offsets.astype("<i8").data)
        content.update(self.paths.block.data)
        for marks in (self.positives, self.unknown):
            content.update(marks.indptr.astype("<i8").data)
            content.update(marks.indices.astype("<i4", copy=False).data)
        content.update(self.unlabelled.data)
        return SPARSE + content.hexdigest()

    def has_digest(self, digest: str | None) -> bool:
        """Whether `digest` is that of this split; also one of the first versions, which hashed
        dense rows."""
        if digest is None or digest.startswith(SPARSE):
            return digest == self.digest
        content, separator = hashlib.sha256(), b""
        for path in self.paths:
            content.update(separator + path.encode("utf-8", "surrogateescape"))
            separator = b"\n"
        for rows_of in (self.targets_of, self.ignore_of):
            for start in range(0, len(self), CHUNK):
                content.update(rows_of(slice(start, start + CHUNK)).data)
        return digest == content.hexdigest()


def offsets_array(offsets: Sequence[int] | np.ndarray) -> np.ndarray:
    """Ascending offsets as int32, or int64 where they need it."""
    return np.asarray(offsets, np.int32 if offsets[-1] < 1 << 31 else np.int64)


def sparse_marks(offsets: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> csr_array:
    """Marks (N, C): those of row n are `columns` from `offsets[n]` to `offsets[n + 1]`."""
    return csr_array((np.ones(len(columns), np.uint8), columns, offsets_array(offsets)), shape)


def _columns(marks: csr_array, row: int) -> np.ndarray:
    return marks.indices[marks.indptr[row] : marks.indptr[row + 1]]


def _dense(marks: csr_array, rows: int | Rows) -> np.ndarray:
    if isinstance(rows, slice | np.ndarray | Sequence):
        return marks[rows].toarray()
    dense = np.zeros(marks.shape[1], np.uint8)
    dense[_columns(marks, rows)] = 1
    return dense
