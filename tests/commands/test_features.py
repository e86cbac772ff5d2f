"""`--cache-features`: the same training without a pass of the backbone."""

import json
from pathlib import Path

import pytest
import torch

from tests.helpers.commands import TRAIN

FLAGS = f"{TRAIN} --batch-size 4 --max-epochs 2 --img-size 64 --lr 1e-3 --freeze-backbone"
CACHED = f"{FLAGS} --cache-features features"


def history(number):
    lines = Path(f"experiments/mlic_colors/exp{number}/history.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    timeless = ("seconds", "images_per_second")
    return [{name: row[name] for name in row if name not in timeless} for row in rows]


def trained(number):
    """What training gives; scores of validation differ in the last digits, since inference folds
    batch norms."""
    return [(row["train_loss"], row["lr"]) for row in history(number)]


@pytest.mark.parametrize("augment, other, views", [("flip", "none", 2), ("none", "flip", 1)])
def test_the_same_training_and_checkpoint(here, augment, other, views):
    """As with the images, of which the flipped ones are the same; the same without the flag would
    see other images."""
    here(f"{FLAGS} --augment {augment}")
    out = here(f"{CACHED} {'--augment none' if augment == 'none' else ''}").out
    assert out.count("features: 6 images") == 2
    assert len(list(Path("features").glob(f"*-{views}.npy"))) == (1 if views == 2 else 2)
    assert trained(1) == trained(2)
    here(f"{FLAGS} --augment {other}")
    assert trained(1) != trained(3)
    files = [f"experiments/mlic_colors/exp{n}/checkpoints/best_ema_model.pth" for n in (1, 2)]
    one, two = (torch.load(file)["model"] for file in files)
    assert one.keys() == two.keys()
    backbone = [name for name in one if name.startswith("backbone.")]
    assert backbone and all(torch.equal(one[name], two[name]) for name in backbone)
    folder = "experiments/mlic_colors/exp2"
    here(f"evaluate.py --exp-dir {folder} --workers 0")
    results = json.loads(Path(folder, "results.json").read_text())
    assert results["mAP"] == pytest.approx(max(row["mAP_ema"] for row in history(2)), abs=1e-4)


def test_features_are_made_once_and_again_for_another_backbone(here):
    made = "features: 6 images"
    for flags, times in {"": 2, "--lamda 0.2": 0, "--seed 5": 2, "--norm none": 2}.items():
        assert here(f"{CACHED} {flags}").out.count(made) == times


@pytest.mark.parametrize("first, then", [(FLAGS, CACHED), (CACHED, FLAGS)])
def test_a_run_of_other_augmentation_is_not_resumed(here, first, then):
    """Without `--augment`, the features are those of flips, and images are published ones."""
    here(first)
    folder = Path("experiments/mlic_colors/exp1")
    lines = (folder / "train.log").read_text().splitlines(keepends=True)
    (folder / "train.log").write_text("".join(lines[:-1]))  # unfinished
    assert "resumed" not in here(f"{then} --resume auto").out
    assert folder.with_name("exp2").exists()
    if first == FLAGS:
        resume = f"train.py --resume {folder} --cache-features features"
        assert "--augment published" in here.refused(folder / "config.yaml", resume)


def test_a_resumed_run_finds_its_features(here):
    here(f"{CACHED} --save-every 1")
    folder = Path("experiments/mlic_colors/exp1")
    before = history(1)
    (folder / "checkpoints/last.pth").unlink()  # the one before is that of the last step but one
    assert "features: 6 images" not in here(f"train.py --resume {folder}").out
    assert history(1) == before


def test_an_unreadable_image_is_skipped_as_without_features(here):
    image = Path("data/colors/train.txt").read_text().split("\t")[0]
    Path(image).write_bytes(b"no picture")
    here.refused(image, CACHED)
    assert not list(Path("features").iterdir())
    for command in (f"{FLAGS} --augment flip", CACHED, CACHED):
        assert "skipped 1 images" in here(f"{command} --max-bad-images 2").out
    assert trained(1) == trained(2) == trained(3)


@pytest.mark.parametrize("model", ["linear", "csra", "ml_decoder", "q2l --hidden-dim 16"])
def test_the_heads_of_other_methods(here, model):
    for command in (f"{FLAGS} --augment flip", CACHED):
        here(f"{command.replace('--embed-type random', '')} --model {model}")
    file = "experiments/{}_colors/exp{}/history.jsonl"
    rows = [Path(file.format(model.split()[0], n)).read_text().split("\n")[1] for n in (1, 2)]
    one, two = (json.loads(row)["train_loss"] for row in rows)
    assert one == pytest.approx(two, rel=1e-4)
