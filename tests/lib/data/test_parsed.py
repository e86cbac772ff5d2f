"""The parsed form of a long list is used as long as it is that of the list, and no longer."""

import os
import pickle

import numpy as np
import pytest

from lib.data import parsed
from lib.data.parsed import MappedSplit, open_split
from tests.helpers.refusals import refused

LABELS = [f"label {number}" for number in range(7)]


@pytest.fixture
def listed(tmp_path, monkeypatch):
    """A list that counts as long, and how often it was parsed."""
    monkeypatch.setattr(parsed, "KEPT_FROM", 1)
    times = []

    def read_split(*arguments):
        times.append(arguments)
        return real(*arguments)

    real = parsed.read_split
    monkeypatch.setattr(parsed, "read_split", read_split)
    lines = [
        f"caf\N{LATIN SMALL LETTER E WITH ACUTE}{row}.jpg\t{LABELS[row % 7]}" for row in range(50)
    ]
    (tmp_path / "test.txt").write_text("\n".join([*lines, f"last.jpg\t?{LABELS[3]},{LABELS[1]}"]))
    return tmp_path / "test.txt", times


def same(one, other):
    assert list(one.paths) == list(other.paths) and one.name == other.name
    assert one.digest == other.digest
    for found, expected in zip(one.dense(), other.dense(), strict=True):
        assert found.dtype == expected.dtype and (found == expected).all()


def test_a_long_list_is_parsed_once(listed):
    file, times = listed
    first, again = open_split(file, LABELS), open_split(file, LABELS)
    assert len(times) == 1 and isinstance(first, MappedSplit)
    for split in (first, again):
        same(split, parsed.read_split(file, LABELS))


def test_short_lists_leave_no_file(listed, monkeypatch):
    monkeypatch.setattr(parsed, "KEPT_FROM", 1 << 20)
    open_split(listed[0], LABELS)
    assert os.listdir(listed[0].parent) == ["test.txt"]


def test_it_is_parsed_again_when_what_it_is_made_of_changes(listed):
    file, times = listed
    ignore = file.with_name("ignore.npy")
    np.save(ignore, np.zeros((51, 7), np.uint8))
    split = open_split(file, LABELS)

    def changes(change, *arguments):
        nonlocal split
        before = file.stat().st_mtime_ns
        change()
        os.utime(file, ns=(before, before))  # by content, not by time
        split = open_split(file, *arguments)
        same(split, parsed.read_split(file, *arguments))
        return len(times)

    count = changes(lambda: None, LABELS, ignore)
    assert changes(lambda: None, LABELS, ignore) == count + 1  # by `same` alone
    count = len(times)
    assert changes(lambda: np.save(ignore, np.eye(51, 7)), LABELS, ignore) == count + 2
    swapped = file.read_text().replace("0.jpg", "X.jpg")
    assert changes(lambda: file.write_text(swapped), LABELS, ignore) == count + 4
    assert changes(lambda: None, LABELS[::-1], ignore) == count + 6


@pytest.mark.parametrize("damage", ["cut", "header", "empty", "kind"])
def test_a_damaged_one_is_made_again(listed, damage):
    file, times = listed
    kept = file.with_name(".test.parsed")
    expected = open_split(file, LABELS)
    content = bytearray(kept.read_bytes())
    if damage == "cut":
        del content[-3:]
    elif damage == "header":
        content[:4] = b"\xff" * 4
    elif damage == "kind":
        content = content.replace(b"I32", b"I31", 1)
    kept.unlink()  # or the memory of `expected` would change
    kept.write_bytes(b"" if damage == "empty" else content)
    same(open_split(file, LABELS), expected)
    assert len(times) == 2
    open_split(file, LABELS)
    assert len(times) == 2


def test_a_read_only_folder_works_without(listed, monkeypatch):
    file, times = listed
    monkeypatch.setattr(os, "access", lambda *arguments: False)
    for _ in range(2):
        same(open_split(file, LABELS), parsed.read_split(file, LABELS))
    assert os.listdir(file.parent) == ["test.txt"] and len(times) == 4


def test_nothing_is_kept_of_a_bad_list_or_on_a_full_disk(listed, monkeypatch):
    file, _ = listed
    good = file.read_text()
    file.write_text(good.replace("37.jpg\tlabel", "37.jpg\tlable"))
    with refused(f"{file}:38", "'label 2'"):
        open_split(file, LABELS)
    file.write_text(good)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with refused(file.with_name(".test.parsed")):
        open_split(file, LABELS)
    assert os.listdir(file.parent) == ["test.txt"]


def test_a_worker_maps_the_same_file(listed):
    """Where workers are not forked: nothing but its name is sent to them."""
    file, _ = listed
    split = open_split(file, LABELS)
    sent = pickle.dumps(split)
    assert len(sent) < 1000
    same(pickle.loads(sent), split)
    same(pickle.loads(pickle.dumps(split.head(3))), split.head(3))
    file.write_text("other.jpg\tlabel 1\n")
    open_split(file, LABELS)
    with refused(file.with_name(".test.parsed")):
        pickle.loads(sent)
