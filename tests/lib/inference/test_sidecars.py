"""XMP files beside images: keywords for new ones, and never a change to those of others."""

import multiprocessing
import os
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lib.common.errors import UserError
from lib.inference.sidecars import write_sidecar
from lib.inference.tags import Tag, TaggedImage
from tests.helpers.commands import run_here
from tests.helpers.damage import time_limit

LABELS = ("red & <blue>", "\U0001f600", "a\ue009b\ue00ac", 'it\'s "so"', "x\u2028y\x85")


def tagged(path, *labels):
    return TaggedImage(0, str(path), [Tag(0, label, 0.9, "predicted") for label in labels], (), {})


def keywords(file):
    return [item.text for item in ElementTree.parse(file).iter() if item.tag.endswith("}li")]


def test_keywords_are_added_to_a_file_of_its_own(tmp_path):
    image, file = tmp_path / "a.jpg", tmp_path / "a.jpg.xmp"
    assert write_sidecar(tagged(image, *LABELS[:2])) and keywords(file) == [*LABELS[:2]]
    os.chmod(file, 0o600)
    assert write_sidecar(tagged(image, *LABELS[1:])) and keywords(file) == [*LABELS]
    assert file.stat().st_mode & 0o777 == 0o600
    before = file.stat().st_mtime_ns
    assert write_sidecar(tagged(image)) and keywords(file) == [*LABELS]
    assert file.stat().st_mtime_ns >= before and os.listdir(tmp_path) == ["a.jpg.xmp"]


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.write_bytes(file.read_bytes().replace(b"<dc:subject>", b"<dc:subject> ")),
        lambda file: file.write_bytes(file.read_bytes().replace(b"red", b"<b>red</b>")),
        lambda file: file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n")),
        lambda file: file.write_bytes(b"<x:xmpmeta/>"),
        lambda file: file.write_bytes(b"<a>" * 3000),
        lambda file: file.write_bytes(b""),
        lambda file: file.rename(file.with_name("real")) and file.symlink_to("real"),
        lambda file: file.unlink() or file.symlink_to("nowhere"),
        lambda file: file.unlink() or file.mkdir(),
        lambda file: file.unlink() or os.mkfifo(file),
        lambda file: file.unlink() or file.symlink_to("/dev/zero"),
        lambda file: os.truncate(file, 2**40),
    ],
    ids="space element line-ends other nested empty link dangling folder pipe device large".split(),
)
def test_files_of_others_are_left_as_they_are(tmp_path, change):
    file = tmp_path / "a.jpg.xmp"
    write_sidecar(tagged(tmp_path / "a.jpg", "red"))
    change(file)
    before = os.lstat(file)
    with time_limit():
        assert not write_sidecar(tagged(tmp_path / "a.jpg", "blue"))
    assert os.lstat(file) == before


def test_what_is_no_xml_replaces_nothing(tmp_path):
    write_sidecar(tagged(tmp_path / "a.jpg", "red"))
    with pytest.raises(ElementTree.ParseError):
        write_sidecar(tagged(tmp_path / "a.jpg", "blue\x01"))
    assert keywords(tmp_path / "a.jpg.xmp") == ["red"]
    with pytest.raises(UserError, match="gone"):
        write_sidecar(tagged(tmp_path / "gone" / "a.jpg", "red"))


def write_many(image, name, barrier):
    for number in range(30):
        barrier.wait(20)
        write_sidecar(tagged(image, f"{name}{number}"))


def test_of_two_processes_none_loses_its_keywords(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, image = context.Barrier(2), tmp_path / "a.jpg"
    writers = [context.Process(target=write_many, args=(image, n, barrier)) for n in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert set(keywords(f"{image}.xmp")) == {f"{n}{number}" for n in "ab" for number in range(30)}


def test_images_with_files_of_others_are_named_and_not_done(colors, monkeypatch, capsys):
    images = [Path(f"data/colors/images/test{number}.png") for number in range(3)]
    other = Path(f"{images[1]}.xmp")
    other.write_text("<mine/>")
    command = ("infer.py", "--exp-dir", str(colors), "--images", *map(str, images))
    flags = ("--threshold", "0", "--format", "xmp", "--skip-done", "--workers", "0")
    result = run_here(monkeypatch, capsys, *command, *flags)
    assert result.code == 0 and str(other) in result.err and result.out == ""
    assert other.read_text() == "<mine/>" and set(keywords(f"{images[0]}.xmp"))
    assert len((colors / "done.jsonl").read_text().splitlines()) == 2
    other.unlink()
    result = run_here(monkeypatch, capsys, *command, *flags)
    assert result.code == 0 and "skipped: 2" in result.err and keywords(other)
