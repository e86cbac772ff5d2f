"""Untrusted files: what is opened at all, and what is read of it."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from lib.common import readers
from lib.common.readers import (
    decode_json,
    numbered_lines,
    read_array,
    read_json,
    read_settings,
    read_yaml,
    require_file,
    require_list,
)
from lib.data.lists import check_label
from tests.helpers.damage import time_limit
from tests.helpers.refusals import refused

READERS = {
    "lines": lambda file: list(numbered_lines(file)),
    "list": lambda file: require_list(file, "write one"),
    "array": read_array,
    "json": read_json,
    "typed json": lambda file: decode_json(file, dict),
    "settings": read_settings,
    "yaml": read_yaml,
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "kernel log"])
def test_what_has_no_end_is_not_read(tmp_path, read, kind):
    file = tmp_path / "file"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.symlink_to("/dev/zero" if kind == "device" else "/proc/kmsg")
    with time_limit():
        if kind == "kernel log" and read in (READERS["lines"], READERS["settings"], read_yaml):
            assert not read(file)  # an empty text, which blocks where it is read
        else:
            with refused(file):
                read(file)


@pytest.mark.parametrize("read", [read_yaml, read_settings, lambda file: read_json(file, 1000)])
def test_more_than_a_file_of_its_kind_holds_is_not_read(tmp_path, read):
    with open(tmp_path / "file", "wb") as file:
        file.truncate(2**40)
    with refused(tmp_path / "file"):
        read(tmp_path / "file")
    assert require_file(tmp_path / "file") == 2**40


def test_a_line_without_end_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "LINE", 100)
    (tmp_path / "file").write_text("a\n" + "b" * 98 + "\n" + "c" * 100)
    with refused(f"{tmp_path / 'file'}:3"):
        list(numbered_lines(tmp_path / "file"))


def test_aliases_are_refused(tmp_path):
    """13 lines of them stand for a text of 10 ** 12 letters."""
    lines = ["a0: &a0 ha"]
    lines += [f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]" for n in range(12)]
    (tmp_path / "data.yaml").write_text("\n".join(lines))
    with refused(f"{tmp_path / 'data.yaml'}:2"):
        read_yaml(tmp_path / "data.yaml")
    (tmp_path / "data.yaml").write_text("a: 'b*c' # *d\n")
    assert read_yaml(tmp_path / "data.yaml") == {"a": "b*c"}


def test_texts_and_json_are_read_as_before(tmp_path):
    (tmp_path / "text").write_bytes(b"\xef\xbb\xbfone\r\ntwo\n\nfour")
    assert list(numbered_lines(tmp_path / "text")) == [(1, "one"), (2, "two"), (3, ""), (4, "four")]
    (tmp_path / "json").write_text(json.dumps({"a": 1}))
    assert read_json(tmp_path / "json") == decode_json(tmp_path / "json", dict) == {"a": 1}
    np.save(tmp_path / "array.npy", np.arange(3))
    assert read_array(tmp_path / "array.npy").tolist() == [0, 1, 2]
    with refused(tmp_path / "gone"):
        list(numbered_lines(Path(tmp_path / "gone")))


@pytest.mark.parametrize("label", ["a\x01", "\x1b[31mred", "a\x7f\ufffe", "\uffff", "a\x0bb"])
def test_labels_that_xml_cannot_hold_are_refused(label):
    with refused("label.txt:1"):
        check_label(label, "label.txt:1")
    for fine in ("\U0001f600", "\ue009", "été", "a b", "x\u2028y"):
        check_label(fine, "label.txt:1")
