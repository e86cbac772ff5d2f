"""Sparse labels and paths in one block against the dense arrays and lists that they stand for."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lib.data.split import Paths, Split
from tests.helpers.refusals import refused

MARKS = arrays.arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 5)))


@given(st.lists(st.text(st.characters(codec="utf-8")) | st.just("caf\udce9.jpg"), max_size=9))
def test_paths_are_a_sequence_of_text(names):
    paths = Paths.of(names)
    assert list(paths) == names and len(paths) == len(names)
    assert [paths[row] for row in range(-len(names), len(names))] == names + names
    assert paths[1:5:2] == names[1:5:2] and list(paths.head(3)) == names[:3]
    with pytest.raises(IndexError):
        paths[len(names)]


def test_iteration_over_many_paths(monkeypatch):
    monkeypatch.setattr("lib.data.split.CHUNK", 3)
    names = [f"{row}.jpg" for row in range(8)]
    assert list(Paths.of(names)) == names


@given(MARKS, st.data())
def test_rows_are_those_of_dense_arrays(targets, data):
    ignore = data.draw(arrays.arrays(bool, targets.shape))
    unread = data.draw(arrays.arrays(bool, len(targets)))
    rows = data.draw(arrays.arrays(int, 3, elements=st.integers(0, len(targets) - 1)))
    split = Split.from_dense("test", map(str, range(len(targets))), targets, ignore).without(unread)
    expected = ignore | unread[:, None]
    assert split.shape == targets.shape and split.has_known == (not expected.all())
    for found, dense in zip(split.dense(), (targets, expected), strict=True):
        assert (found == dense).all()
    for chosen in (rows, rows.tolist(), slice(1, 3), int(rows[0]), rows[0]):
        assert (split.targets_of(chosen) == targets[chosen]).all()
        found = split.ignore_of(chosen)
        assert found.shape == expected[chosen].shape and (found == expected[chosen]).all()
    for row, marks in enumerate(targets & ~expected):
        assert split.labels_of(row).tolist() == np.flatnonzero(marks).tolist()
    head = split.head(2)
    assert list(head.paths) == list(split.paths)[:2]
    assert (head.dense()[1] == expected[:2]).all()


def test_images_without_labels():
    split = Split.without_labels("images", ["a", "b"], 3)
    targets, ignore = split.dense()
    assert targets.shape == ignore.shape == (2, 3) and not targets.any() and ignore.all()
    with refused("images.txt"):
        split.require_known()


def dense_digest(paths, targets, ignore):
    """What the first versions stored in `last.pth`."""
    content = hashlib.sha256("\n".join(paths).encode("utf-8", "surrogateescape"))
    content.update(targets.astype(np.uint8).tobytes() + ignore.tobytes())
    return content.hexdigest()


@given(MARKS, st.data())
def test_a_digest_of_any_version_is_recognized(targets, data):
    ignore = data.draw(arrays.arrays(bool, targets.shape))
    paths = [f"caf\udce9{row}" for row in range(len(targets))]
    split = Split.from_dense("test", paths, targets, ignore)
    assert split.has_digest(split.digest) and split.has_digest(dense_digest(paths, targets, ignore))
    assert not split.has_digest(None)
    row, column = (data.draw(st.integers(0, size - 1)) for size in targets.shape)
    for changed in (targets, ignore):
        changed[row, column] ^= True
        other = Split.from_dense("test", paths, targets, ignore)
        changed[row, column] ^= True
        assert other.digest != split.digest and not other.has_digest(split.digest)
        assert not other.has_digest(dense_digest(paths, targets, ignore))
    for other in (Split.from_dense("test", [*paths[1:], "x"], targets, ignore), split.head(0)):
        assert other.digest != split.digest
    other = Split.from_dense("test", paths, np.roll(targets, 1, axis=1), ignore)
    assert (other.digest == split.digest) == (other.dense()[0] == targets).all()
