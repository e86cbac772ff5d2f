"""Whole runs on photographs that a camera noted to be turned, and on others."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lib.data.dataset import read_image
from tests.helpers.commands import TRAIN, make_experiment

FLAGS = f"{TRAIN} --batch-size 4 --max-epochs 2 --img-size 64 --seed 3"
CACHES = pytest.mark.parametrize("flags", ["", "--cache cache"])


@pytest.fixture
def train(here):
    """Trains in a folder of its own; gives the losses and the weights of run `number`."""

    def losses(exif, number, flags):
        here(f"{FLAGS} --exif {exif} {flags}")
        folder = Path(f"experiments/mlic_colors/exp{number}")
        rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
        state = torch.load(folder / "checkpoints" / "best_ema_model.pth", weights_only=True)
        assert state["config"]["exif"] == exif
        for row in rows:
            del row["seconds"], row["images_per_second"]
        return rows, state["model"]

    return losses


def same(one, other):
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@CACHES
def test_images_without_a_turn_train_to_the_same_bits(train, flags):
    (upright, model), (stored, other) = (
        train(exif, number, flags) for number, exif in enumerate(("upright", "stored"), 1)
    )
    assert upright == stored and same(model, other)


@CACHES
def test_turned_photographs_train_as_their_upright_copies(train, flags):
    """And otherwise than their stored pixels do."""
    note = Image.Exif()
    note[0x0112] = 6
    for file in Path("data/colors/images").iterdir():
        Image.open(file).save(file, exif=note)
    turned, model = train("upright", 1, flags)
    stored, other = train("stored", 2, flags)
    assert turned != stored and not same(model, other)
    for file in Path("data/colors/images").iterdir():
        Image.fromarray(np.asarray(read_image(file))).save(file)
    copies, again = train("upright", 3, flags)
    assert turned == copies and same(model, again)


@pytest.mark.parametrize("exif", ["upright", "stored"])
def test_an_evaluation_scales_boxes_as_images_are_read(here, exif):
    """Boxes of the whole upright picture, 30 x 40, leave a stored one, 40 x 30."""
    note = Image.Exif()
    note[0x0112] = 8
    whole = [{"label": name, "box": [0, 0, 30, 40]} for name in ("red", "green", "blue")]
    boxes = {}
    for file in Path("data/colors/images").iterdir():
        Image.open(file).resize((40, 30)).save(file, exif=note)
        boxes[str(file)] = whole
    Path("data/colors/boxes.json").write_text(json.dumps(boxes))
    experiment = make_experiment(Path(), "--exif", exif)  # of one patch
    command = "evaluate.py --exp-dir experiments/toy --workers 0"
    if exif == "stored":
        line = here.refused("boxes.json", command)
        assert "--exif stored" in line and not (experiment / "results.json").exists()
        return
    here(command)
    results = json.loads((experiment / "results.json").read_text())
    assert results["energy_in_box"] == pytest.approx(1)
