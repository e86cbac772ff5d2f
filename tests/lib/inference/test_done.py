"""The list of the images that are tagged: what it recognises, and what it survives."""

import os
from pathlib import Path

import pytest
import torch

from lib.inference.done import DoneImages
from lib.inference.tags import Tag, TaggedImage
from lib.runtime.world import World
from tests.helpers.commands import ROOT, run, start
from tests.helpers.refusals import refused

INFER = str(ROOT / "infer.py")
ODD = b"caf\xe9\n.png".decode("utf-8", "surrogateescape")  # no UTF-8, two lines


@pytest.fixture
def opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png", ODD):
        open(name, "w").close()

    def open_done(*paths, model="m", output="tags"):
        return DoneImages(World(torch.device("cpu")), tmp_path / "exp", paths, model, output)

    return open_done


def tagged(path, *tags):
    return TaggedImage(0, path, list(tags), ("a", 0.5), {})


def test_odd_names_and_labels(opened):
    predicted = [{"label": "don\x92t\x7f", "score": 0.5}]
    opened("a.png", ODD).add([tagged(ODD, Tag(0, "don\x92t\x7f", 0.5, "predicted"))])
    found = opened("a.png", ODD)
    assert found.missing == [0] and found.count == 1
    assert list(found.lines()) == [{"path": ODD, "predicted": predicted}]


def test_what_makes_an_image_another_one(opened):
    opened("a.png").add([tagged("a.png")])
    both = opened("a.png", os.path.abspath("a.png"))
    assert both.missing == []  # two spellings of one file
    assert opened("a.png", model="other").missing == [0]
    assert opened("a.png", output="csv").missing == [0]
    assert opened("b.png").is_new is False and opened("b.png", output="csv").is_new
    os.utime("a.png", (1, 1))
    assert opened("a.png").missing == [0]


def test_a_file_that_is_gone_is_left_to_the_reader(opened):
    done = opened("gone.png")
    done.add([tagged("gone.png")])
    assert done.missing == [0] and opened("gone.png").missing == [0]


def test_a_line_that_was_cut_off_is_forgotten(opened, tmp_path):
    opened("a.png").add([tagged("a.png")])
    with open(tmp_path / "exp" / "done.jsonl", "a") as file:
        file.write('{"path": "b.p')
    done = opened("a.png", "b.png")
    assert done.missing == [1]
    done.add([tagged("b.png")])
    assert opened("a.png", "b.png").missing == []
    with open(tmp_path / "exp" / "done.jsonl", "ab") as file:
        file.write(b"\xff\n")
    with refused(tmp_path / "exp" / "done.jsonl:3"):
        opened("a.png")
    (tmp_path / "exp" / "done.jsonl").write_text('{"predicted": [{"a": ' + "[" * 50_000 + "\n")
    with refused(tmp_path / "exp" / "done.jsonl:1"):
        opened("a.png")


def test_a_record_is_whole_or_absent(opened, tmp_path, monkeypatch):
    """Of a batch too, on a full disk."""
    done, write = opened("a.png", "b.png"), os.write
    done.add([tagged("a.png")])
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[: len(data) * 2 // 3]))
    for _ in range(2):
        with refused(tmp_path / "exp" / "done.jsonl"):
            done.add([tagged("b.png"), tagged("a.png")])
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert (tmp_path / "exp" / "done.jsonl").read_text().count("\n") == 1
    assert opened("a.png", "b.png").missing == [1]


def test_two_runs_at_once_are_refused(opened, tmp_path):
    held = opened("a.png")
    code = (
        "import torch; from pathlib import Path; from lib.runtime.world import World; "
        "from lib.inference.done import DoneImages; "
        f"DoneImages(World(torch.device('cpu')), Path({str(tmp_path / 'exp')!r}), [], 'm', 'csv')"
    )
    result = run("-c", code, cwd=tmp_path)
    assert f"UserError: {tmp_path / 'exp' / 'done.jsonl'}: another process" in result.err
    assert held.missing == [0]


FULL = """
import runpy, sys
from lib.inference import done

write_all, left = done.write_all, [1, 2]
def until_full(descriptor, data):
    if not left:
        raise OSError(28, "No space left on device")
    left.pop()
    write_all(descriptor, data)

done.write_all = until_full
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_what_is_not_recorded_is_not_printed(colors):
    """Or its rows would be in the file twice."""
    images = [f"data/colors/images/test{number}.png" for number in range(4)]
    flags = f"--exp-dir {colors} --skip-done --format csv --batch-size 1 --workers 0 --threshold 0"
    codes = []
    for code in (FULL, FULL.replace("if not left", "if False")):
        code = code.replace("import runpy, sys", f"import runpy, sys; sys.argv[0] = {INFER!r}")
        with open("tags.csv", "ab") as out:
            command = ("-c", code, *flags.split(), "--images", *images)
            codes.append(start(*command, cwd=Path.cwd(), stdout=out.fileno()).wait())
    rows = [line.split(",")[0] for line in open("tags.csv").read().splitlines()]
    assert codes == [2, 0]
    assert rows == ["path", *(path for path in images for _ in range(3))]
