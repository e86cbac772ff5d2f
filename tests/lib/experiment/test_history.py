"""The picture of a run's course."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from lib.common.errors import UserError
from lib.experiment.folder import Experiment
from lib.experiment.history import draw_curves, read_history
from tests.helpers.commands import ROOT


def row(epoch, **values):
    base = {"epoch": epoch, "train_loss": 9.0 / epoch, "lr": 1e-4, "mAP": 0.5, "mAP_ema": 0.6}
    return base | {"val_loss_ema": 8.0, "images_per_second": 50.0} | values


def test_the_rows_of_a_history_are_read(tmp_path):
    file = tmp_path / "history.jsonl"
    file.write_text("".join(json.dumps(row(epoch, seconds=3)) + "\n" for epoch in (1, 2)))
    assert read_history(file) == [row(1), row(2)]


def test_a_history_from_before_the_validation_loss(tmp_path):
    file = tmp_path / "history.jsonl"
    old, new = row(1), row(2)
    del old["val_loss_ema"]
    file.write_text(f"{json.dumps(old)}\n{json.dumps(new)}\n")
    rows = read_history(file)
    assert math.isnan(rows[0].pop("val_loss_ema")) and rows == [old, new]
    draw_curves(tmp_path / "curves.png", [old | {"val_loss_ema": math.nan}, new], "resumed")


def test_epochs_without_a_validation(tmp_path):
    """They leave gaps in the data, none in the curves; before the first there is no best one."""
    scores = ("mAP", "mAP_ema", "val_loss_ema")
    bare = {name: value for name, value in row(1).items() if name not in scores}
    file = tmp_path / "history.jsonl"
    file.write_text(f"{json.dumps(bare)}\n{json.dumps(row(2))}\n")
    rows = read_history(file)
    assert [math.isnan(one["mAP_ema"]) for one in rows] == [True, False]
    for some in (rows[:1], rows):
        draw_curves(tmp_path / "curves.png", some, "sparse")


@pytest.mark.parametrize("line", ["{", '{"epoch": 2}', "[]", '{"epoch": "two"}', ""])
def test_a_damaged_line_is_named(tmp_path, line):
    file = tmp_path / "history.jsonl"
    file.write_text(f"{json.dumps(row(1))}\n{line}\n")
    with pytest.raises(UserError, match="history.jsonl:2: no row of an epoch; remove this line"):
        read_history(file)


def test_one_picture_whatever_the_number_of_epochs(tmp_path):
    pictures = []
    for epochs in (1, 2, 60):
        rows = [row(epoch, mAP_ema=epoch / 100) for epoch in range(1, epochs + 1)]
        draw_curves(tmp_path / "curves.png", rows, "experiments/mlic_$x$_\\frac/exp1")
        with Image.open(tmp_path / "curves.png") as picture:
            pictures.append(np.asarray(picture.convert("L")))
    assert {picture.shape for picture in pictures} == {(360, 1200)}
    assert not np.array_equal(pictures[1], pictures[2])
    assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]


def test_the_first_process_alone_draws(tmp_path):
    Experiment(tmp_path, writable=False).add_history(row(1))
    assert list(tmp_path.iterdir()) == []
    Experiment(tmp_path).add_history(row(1))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["curves.png", "history.jsonl"]


def test_training_imports_matplotlib_only_to_draw():
    code = "import sys, lib.training.fit\nassert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
