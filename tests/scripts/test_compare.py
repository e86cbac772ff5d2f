"""The command that compares runs: its table, its files and what it refuses."""

import csv
from pathlib import Path

import pytest
from PIL import Image

from lib.reports.results import open_evaluated
from lib.scoring.metrics import summarize
from tests.helpers.commands import error_where, run_here
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
    summary = summarize(*open_evaluated(Path("exp3")).stored.arrays, threshold=0.5, topk=3)
    assert float(rows[3]["mAP"]) == summary["mAP"]
    assert float(rows[3]["top-k CF1"]) == summary["topk_cf1"]
    assert float(rows[3]["difference"]) == pytest.approx(summary["mAP"] - float(rows[2]["mAP"]))
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
    make_evaluated(tmp_path / "more", images=13)
    (tmp_path / "raw").mkdir()
    for flags, where in (
        (("exp1", "other", "--save-dir", "compared"), "other"),
        (("exp1", "more"), "more"),
        (("exp1", "exp2", "./exp1"), "exp1"),
        (("exp1", "raw"), "raw/scores.npz"),
    ):
        assert error_where(here(*flags)) == where
    assert not (tmp_path / "compared").exists()
