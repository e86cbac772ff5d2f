"""Atomic writes."""

import multiprocessing
import os
import signal
import time

import pytest

from lib.common.files import append_line, atomic_write, staged_folder, write_json, write_text
from tests.helpers.refusals import refused


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


def test_previous_content_survives_an_error(tmp_path):
    file = tmp_path / "a.txt"
    write_text(file, "old")
    with pytest.raises(KeyboardInterrupt), atomic_write(file) as out:
        out.write("half")
        raise KeyboardInterrupt
    assert file.read_text() == "old" and entries(tmp_path) == ["a.txt"]


def test_a_failed_write_names_the_file(tmp_path):
    (tmp_path / "a").write_text("not a folder")
    for write in (write_text, append_line):
        with refused(tmp_path / "a" / "log"):
            write(tmp_path / "a" / "log", "x")


def test_files_get_the_usual_permissions(tmp_path):
    write_text(tmp_path / "a", "x")
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~mask


def test_the_previous_file_is_kept_when_asked(tmp_path):
    for text in ("one", "two", "three"):
        with atomic_write(tmp_path / "a", previous=tmp_path / "b") as file:
            file.write(text)
    assert entries(tmp_path) == ["a", "b"]
    assert (tmp_path / "a").read_text() == "three" and (tmp_path / "b").read_text() == "two"


def test_json_refuses_nan_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert entries(tmp_path) == []


def test_staged_folder_replaces_its_entries_and_keeps_the_others(tmp_path):
    target = tmp_path / "data"
    (target / "images").mkdir(parents=True)
    (target / "images" / "old.jpg").write_text("old")
    (target / "bert.npy").write_text("kept")
    (target / "train.txt").write_text("old")
    with staged_folder(target) as stage:
        (stage / "images").mkdir()
        (stage / "images" / "new.jpg").write_text("new")
        (stage / "train.txt").write_text("new")
    assert entries(tmp_path) == ["data"]
    assert entries(target) == ["bert.npy", "images", "train.txt"]
    assert entries(target / "images") == ["new.jpg"]
    assert (target / "train.txt").read_text() == "new"


def test_staged_folder_changes_nothing_on_an_error(tmp_path):
    target = tmp_path / "data"
    target.mkdir()
    (target / "train.txt").write_text("old")
    with pytest.raises(KeyboardInterrupt), staged_folder(target) as stage:
        (stage / "train.txt").write_text("new")
        raise KeyboardInterrupt
    assert entries(tmp_path) == ["data"] and (target / "train.txt").read_text() == "old"


def test_a_signal_waits_until_all_entries_are_in_place(tmp_path, monkeypatch, request):
    """Ctrl-C between two renames would leave new entries beside old ones."""
    target = tmp_path / "data"
    target.mkdir()
    for name in ("label.txt", "train.txt"):
        (target / name).write_text("old")
    replace = os.replace

    def interrupted(source, destination):
        signal.raise_signal(signal.SIGINT)
        replace(source, destination)

    previous = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, previous))
    with pytest.raises(KeyboardInterrupt), staged_folder(target) as stage:
        for name in ("label.txt", "train.txt"):
            (stage / name).write_text("new")
        monkeypatch.setattr(os, "replace", interrupted)
    assert {(target / name).read_text() for name in ("label.txt", "train.txt")} == {"new"}
    assert entries(tmp_path) == ["data"]
    with pytest.raises(KeyboardInterrupt):  # the handlers are restored
        signal.raise_signal(signal.SIGINT)


def write_at_once(target, name, barrier):
    """Write six files that hold `name` at the same moment as another process."""
    for _ in range(4):
        with staged_folder(target) as stage:
            for number in range(6):
                write_text(stage / f"{number}.txt", name)
            barrier.wait(20)
        barrier.wait(20)
        assert len({path.read_text() for path in target.iterdir()}) == 1
        barrier.wait(20)


def test_two_writers_at_once_do_not_mix(tmp_path, monkeypatch):
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *names: time.sleep(0.003) or replace(*names))
    target, context = tmp_path / "data", multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    writers = [context.Process(target=write_at_once, args=(target, n, barrier)) for n in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert entries(tmp_path) == ["data"] and len(entries(target)) == 6


@pytest.mark.parametrize("name", ["😀" * 60, "n" * 250])
def test_names_as_long_as_the_file_system_allows(tmp_path, name):
    write_text(tmp_path / name, "x")
    with staged_folder(tmp_path / name[:-1]) as stage:
        write_text(stage / name, "x")
    assert (tmp_path / name).read_text() == (tmp_path / name[:-1] / name).read_text() == "x"


def test_names_and_controls_are_escaped(tmp_path):
    write_text(tmp_path / "page", "caf\u00e9 \udcff")
    assert (tmp_path / "page").read_text() == "caf\u00e9 \\udcff"
    for line in ("error: a\nepoch 9/9\x1b[2J \udcff\u202e", "two"):
        append_line(tmp_path / "log", line)
    assert (tmp_path / "log").read_text() == "error: a\\nepoch 9/9\\x1b[2J \\udcff\\u202e\ntwo\n"
