"""Whole runs on photographs that a camera noted to be turned, and on others."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lib.data.dataset import read_image
from tests.helpers.commands import TINY, error_line, make_data, make_experiment, run_here

EVALUATE = ("evaluate.py", "--exp-dir", "experiments/toy", "--workers", "0")
FLAGS = (*TINY, *"--data colors --batch-size 4 --max-epochs 2 --img-size 64 --seed 3".split())


@pytest.fixture
def train(tmp_path, monkeypatch, capsys, no_curves):
    """Trains in a folder of its own; gives the losses and the weights of run `number`."""
    monkeypatch.chdir(tmp_path)
    make_data(tmp_path)

    def losses(exif, number, *flags):
        result = run_here(monkeypatch, capsys, "train.py", *FLAGS, "--exif", exif, *flags)
        assert result.code == 0, result.err
        folder = Path("experiments") / "mlic_colors" / f"exp{number}"
        rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
        state = torch.load(folder / "checkpoints" / "best_ema_model.pth", weights_only=True)
        assert state["config"]["exif"] == exif
        for row in rows:
            del row["seconds"], row["images_per_second"]
        return rows, state["model"]

    return losses


def same(one, other):
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("flags", [(), ("--cache", "cache")])
def test_images_without_a_turn_train_to_the_same_bits(train, flags):
    (upright, model), (stored, other) = (
        train(exif, number, *flags) for number, exif in enumerate(("upright", "stored"), 1)
    )
    assert upright == stored and same(model, other)


@pytest.mark.parametrize("flags", [(), ("--cache", "cache")])
def test_turned_photographs_train_as_their_upright_copies(train, flags):
    """And otherwise than their stored pixels do."""
    note = Image.Exif()
    note[0x0112] = 6
    for file in Path("data/colors/images").iterdir():
        Image.open(file).save(file, exif=note)
    turned, model = train("upright", 1, *flags)
    stored, other = train("stored", 2, *flags)
    assert turned != stored and not same(model, other)
    for file in Path("data/colors/images").iterdir():
        Image.fromarray(np.asarray(read_image(file))).save(file)
    copies, again = train("upright", 3, *flags)
    assert turned == copies and same(model, again)


@pytest.mark.parametrize("exif", ["upright", "stored"])
def test_an_evaluation_scales_boxes_as_images_are_read(tmp_path, monkeypatch, capsys, exif):
    """Boxes of the whole upright picture, 30 x 40, leave a stored one, 40 x 30."""
    monkeypatch.chdir(tmp_path)
    data = make_data(tmp_path)
    note = Image.Exif()
    note[0x0112] = 8
    boxes = {}
    for file in (data / "images").iterdir():
        Image.open(file).resize((40, 30)).save(file, exif=note)
        boxes[f"data/colors/images/{file.name}"] = [
            {"label": label, "box": [0, 0, 30, 40], "difficult": False}
            for label in ("red", "green", "blue")
        ]
    (data / "boxes.json").write_text(json.dumps(boxes))
    experiment = make_experiment(tmp_path, "--exif", exif)  # of one patch
    result = run_here(monkeypatch, capsys, *EVALUATE)
    if exif == "stored":
        says = "is not inside the image, which has 40 x 30 pixels (--exif stored)"
        assert says in error_line(result) and not (experiment / "results.json").exists()
        return
    assert result.code == 0
    results = json.loads((experiment / "results.json").read_text())
    assert results["energy_in_box"] == pytest.approx(1)
