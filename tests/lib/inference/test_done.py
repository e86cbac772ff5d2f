"""The list of the images that are tagged: what it recognises, and what it survives."""

import os

import pytest
import torch

from lib.inference.done import DoneImages
from lib.runtime.world import World
from tests.helpers.commands import run
from tests.helpers.refusals import refused

ODD = b"caf\xe9\n.png".decode("utf-8", "surrogateescape")  # no UTF-8, two lines


@pytest.fixture
def opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png", ODD):
        open(name, "w").close()

    def open_done(*paths, model="m", output="tags"):
        return DoneImages(World(torch.device("cpu")), tmp_path / "exp", paths, model, output)

    return open_done


def test_odd_names_and_labels(opened):
    predicted = [{"label": "don\x92t\x7f", "score": 0.5}]
    opened("a.png", ODD).add(ODD, predicted)
    found = opened("a.png", ODD)
    assert found.missing == [0] and found.count == 1
    assert list(found.lines()) == [{"path": ODD, "predicted": predicted}]


def test_what_makes_an_image_another_one(opened):
    opened("a.png").add("a.png", [])
    both = opened("a.png", os.path.abspath("a.png"))
    assert both.missing == []  # two spellings of one file
    assert opened("a.png", model="other").missing == [0]
    assert opened("a.png", output="csv").missing == [0]
    assert opened("b.png").is_new is False and opened("b.png", output="csv").is_new
    os.utime("a.png", (1, 1))
    assert opened("a.png").missing == [0]


def test_a_file_that_is_gone_is_left_to_the_reader(opened):
    done = opened("gone.png")
    done.add("gone.png", [])
    assert done.missing == [0] and opened("gone.png").missing == [0]


def test_a_line_that_was_cut_off_is_forgotten(opened, tmp_path):
    opened("a.png").add("a.png", [])
    with open(tmp_path / "exp" / "done.jsonl", "a") as file:
        file.write('{"path": "b.p')
    done = opened("a.png", "b.png")
    assert done.missing == [1]
    done.add("b.png", [])
    assert opened("a.png", "b.png").missing == []
    with open(tmp_path / "exp" / "done.jsonl", "ab") as file:
        file.write(b"\xff\n")
    with refused(tmp_path / "exp" / "done.jsonl:3"):
        opened("a.png")


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
