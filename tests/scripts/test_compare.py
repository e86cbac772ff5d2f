"""The command that compares runs: its table, its files and what it refuses."""

import csv
from pathlib import Path

import pytest
from PIL import Image

from lib.reports.results import open_evaluated
from tests.helpers.commands import error_line, run_here
from tests.helpers.evaluated import make_evaluated


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """Two seeds and another loss weight, and the command in their folder."""
    monkeypatch.chdir(tmp_path)
    for number, flags in enumerate(({"seed": 0}, {"seed": 1}, {"lamda": 0.25}), 1):
        make_evaluated(tmp_path / f"exp{number}", noise=number, **flags)
    return lambda *flags: run_here(
        monkeypatch, capsys, "scripts/compare.py", *flags, "--resamples", "20"
    )


def test_table_and_files(here):
    result = here("exp1", "exp2", "exp3", "--save-dir", "compared")
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:6]] == [
        "exp1", "exp2", "mean of 2", "exp3",
    ]  # fmt: skip
    assert "±" in lines[4] and "±" not in lines[5] and "--lamda" in lines[0]
    assert Path("compared/comparison.md").read_text().splitlines() == lines[:6]
    with open("compared/comparison.csv") as file:
        rows = list(csv.DictReader(file))
    summary = open_evaluated(Path("exp3")).stored.summary(0.5, 3)
    assert float(rows[3]["mAP"]) == summary["mAP"]
    assert float(rows[3]["top-k CF1"]) == summary["topk_cf1"]
    mean = (float(rows[0]["mAP"]) + float(rows[1]["mAP"])) / 2
    assert float(rows[2]["mAP"]) == pytest.approx(mean)
    assert float(rows[3]["difference"]) == pytest.approx(summary["mAP"] - mean)
    assert rows[0]["difference"] == rows[0]["mAP std"] == ""
    with Image.open("compared/comparison.png") as picture:
        assert min(picture.size) > 200


@pytest.mark.filterwarnings("error")
def test_without_save_dir_nothing_is_written_and_one_run_is_a_table_too(here, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    result = here("exp1")
    assert result.code == 0 and len(result.out.splitlines()) == 3
    assert sorted(tmp_path.rglob("*")) == before


def test_what_cannot_be_compared(here, tmp_path):
    make_evaluated(tmp_path / "other", labels=("red", "green", "black"))
    says = error_line(here("exp1", "other", "--save-dir", "compared"))
    assert "other: was evaluated on other labels than exp1: such runs cannot be compared" in says
    make_evaluated(tmp_path / "more", images=13)
    assert "other test images than exp1" in error_line(here("exp1", "more"))
    assert "exp1: named twice" in error_line(here("exp1", "exp2", "./exp1"))
    (tmp_path / "raw").mkdir()
    assert "run python evaluate.py --exp-dir raw first" in error_line(here("exp1", "raw"))
    assert "gone: no such experiment" in error_line(here("exp1", "gone"))
    assert "unrecognized arguments: --plot" in error_line(here("exp1", "--plot"))
    assert "required: EXP_DIR" in error_line(here())
    assert not (tmp_path / "compared").exists()
