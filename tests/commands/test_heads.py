"""Runs with the heads of other methods, from training to heatmaps."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.helpers.commands import TRAIN

FLAGS = f"{TRAIN} --batch-size 4 --max-epochs 1 --img-size 64 --lr-scheduler StepLR"
FLAGS = FLAGS.replace("--embed-type random", "")  # of the method's head
# the first decides the score
MAPS = {
    "linear": ("evidence",),
    "csra --csra-heads 4": ("evidence", "attention"),
    "ml_decoder": ("attention",),
    "q2l --hidden-dim 16": ("attention",),
    "mlic --embed-type random --no-context": ("evidence", "attention"),
}


@pytest.mark.parametrize("head", MAPS)
def test_a_head_from_training_to_heatmaps(here, head):
    labels = ("red", "green", "blue")
    boxes = [{"label": label, "box": [1, 2, 30, 35]} for label in labels]
    names = {f"data/colors/images/test{number}.png": boxes for number in range(6)}
    Path("data/colors/boxes.json").write_text(json.dumps(names))
    here(f"{FLAGS} --model {head}")
    name, maps = head.split()[0], MAPS[head]
    folder = f"experiments/{name}_colors/exp1"
    here(f"evaluate.py --exp-dir {folder} --workers 0")
    results = json.loads(Path(folder, "results.json").read_text())
    assert 0 <= results["mAP"] <= 1
    expected = [*maps, *(f"{name}, label-blind" for name in maps), "even"]
    assert list(results["localization"]) == expected
    assert results["energy_in_box"] == results["localization"][maps[-1]]["energy_in_box"]
    here(f"scripts/report.py --exp-dir {folder} --resamples 20")
    here(f"scripts/export.py --exp-dir {folder} --format hub --out hub")
    shows = {"evidence": "score comes from", "attention": "where each label looked"}[maps[0]]
    assert shows in Path("hub/README.md").read_text()
    if len(maps) == 1:
        (other,) = {"evidence", "attention"} - {*maps}
        line = here.refused(f"--map {other}", f"infer.py --exp-dir {folder} --map {other}")
        assert f"--map {maps[0]}" in line
    here(f"infer.py --exp-dir {folder} --limit 2 --workers 0")
    assert Path(folder, "visualization/index.html").is_file()
    here(f"{FLAGS} --model {head} --pretrained-model {folder}")
    here(f"train.py --resume {folder} --max-epochs 2")
    here.refused("--format published", f"scripts/export.py --exp-dir {folder} --format published")


def test_weights_of_an_experiment_bring_its_backbone_to_any_head(here):
    here(f"{FLAGS} --model linear")
    first = "experiments/linear_colors/exp1"
    for source in (first, f"{first}/checkpoints/best_ema_model.pth"):
        here(f"{FLAGS} --lr 1e-30 --freeze-backbone --model csra --weights {source}")

    def backbone(folder):
        state = torch.load(f"{folder}/checkpoints/best_ema_model.pth")["model"]
        return {name: value for name, value in state.items() if name.startswith("backbone.")}

    expected = backbone(first)
    for number in (1, 2):
        for name, value in backbone(f"experiments/csra_colors/exp{number}").items():
            assert torch.equal(value, expected[name]), name
    # what was trained with it is resumed without it
    shutil.rmtree(first)
    here("train.py --resume experiments/csra_colors/exp1 --max-epochs 2")
