"""The picture of a run's course."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from lib.experiment.folder import Experiment
from lib.experiment.history import draw_curves, read_history
from tests.helpers.commands import ROOT
from tests.helpers.refusals import refused


def row(epoch, **values):
    base = {"epoch": epoch, "train_loss": 9.0 / epoch, "lr": 1e-4, "mAP": 0.5, "mAP_ema": 0.6}
    return base | {"val_loss_ema": 8.0, "images_per_second": 50.0} | values


def test_values_that_a_history_lacks(tmp_path):
    """One from before the validation loss, and epochs without a validation: gaps in the data, none
    in the curves; before the first there is no best epoch."""
    file = tmp_path / "history.jsonl"
    for absent in (("val_loss_ema",), ("mAP", "mAP_ema", "val_loss_ema")):
        bare = {name: value for name, value in row(1).items() if name not in absent}
        file.write_text(f"{json.dumps(bare)}\n{json.dumps(row(2, seconds=3))}\n")
        first, second = rows = read_history(file)
        assert all(math.isnan(first.pop(name)) for name in absent)
        assert first == bare and second == row(2)
        for some in (rows[:1], rows):
            some[0].update(dict.fromkeys(absent, math.nan))
            draw_curves(tmp_path / "curves.png", some, "sparse")


@pytest.mark.parametrize("line", ["{", '{"epoch": 2}', "[]", '{"epoch": "two"}', ""])
def test_a_damaged_line_is_named(tmp_path, line):
    file = tmp_path / "history.jsonl"
    file.write_text(f"{json.dumps(row(1))}\n{line}\n")
    with refused(f"{file}:2"):
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
