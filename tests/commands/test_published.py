"""Published experiment folders at toy size: export and reading back."""

import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

from lib.predictor import Predictor
from models import backbones
from models.weights import resize_table
from tests.helpers.commands import RUN, TRAIN
from tests.helpers.damage import swap

EXPORTED = f"{RUN}/published"
CHECKPOINT = "checkpoints/best_ema_model.pth"
BERT = f"{TRAIN} --batch-size 6 --max-epochs 1 --pos --embed-type bert"
VIT = BERT.replace("test_resnet", "test_vit")
EVALUATE = "evaluate.py --workers 0 --exp-dir"
EXPORT = "scripts/export.py --format published --exp-dir"


def exp(number):
    return f"experiments/mlic_colors/exp{number}"


def scores(experiment):
    with np.load(f"{experiment}/scores.npz") as file:
        return file["scores"]


def model(number):
    return torch.load(f"{exp(number)}/{CHECKPOINT}")["model"]


@pytest.mark.parametrize(
    "flags, target",
    [
        (None, "published"),
        (None, "a: b #1/p"),
        ("--norm none", "published"),
        ("--norm weights", "published"),
        ("--embed-type random", "published"),
    ],
)
def test_an_export_gives_the_same_scores_back(home, flags, target):
    if flags:
        home(f"{BERT} {flags}")
        home(f"{EVALUATE} {exp(2)}")
    home(f"{EXPORT} {exp(2) if flags else RUN} --save-dir", target)
    config = Path(target, "config.yaml").read_text()
    assert f"orid_norm: {flags == '--norm none'}\n" in config
    home(EVALUATE, target)
    np.testing.assert_allclose(scores(target), scores(exp(2) if flags else RUN), atol=1e-6)
    home("infer.py --workers 0 --exp-dir", target)


def test_images_are_read_as_the_export_says(home):
    """An export of this project keeps `exif`, which no published config has."""
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.open("data/colors/images/test0.png").save("a.png", exif=turned)
    own, upright = (Predictor(name, device="cpu")(["a.png"])[0] for name in (RUN, EXPORTED))
    np.testing.assert_allclose(own, upright, atol=1e-6)
    swap("exif: upright\n", "")(Path(EXPORTED, "config.yaml"))
    published = Predictor(EXPORTED, device="cpu")
    assert published.config.exif == "stored"
    assert np.abs(published(["a.png"])[0] - own).max() > 1e-6


def test_an_export_has_the_published_form(home):
    state = torch.load(f"{EXPORTED}/{CHECKPOINT}", weights_only=True)
    assert all(name.startswith("module.") for name in state)
    assert "module.embeddings" not in state and "module.position_embedding.pe" in state
    lines = Path(EXPORTED, "config.yaml").read_text().splitlines()
    values = dict(line.split(": ", 1) for line in lines)
    assert values["pretrained_model"] == "None" and values["pos"] == "True"
    assert values["num_classes"] == "3" and values["embed_path"] == "data/colors/bert.npy"


def test_an_export_says_what_else_it_needs(home):
    assert "data/colors" not in home(f"{EXPORT} {RUN} --save-dir a").out
    np.save("data/colors/bert.npy", np.ones((3, 12)))
    assert "b/data/colors" in home(f"{EXPORT} {RUN} --save-dir b").out
    for name in ("label.txt", "bert.npy"):
        shutil.copy(f"b/data/colors/{name}", f"data/colors/{name}")
    home(f"{EVALUATE} b")
    np.testing.assert_allclose(scores("b"), scores(RUN), atol=1e-6)


def test_an_export_says_what_the_published_code_cannot(home):
    home(f"{VIT} --img-size 64 --norm weights")
    home(f"{BERT} --arch resnet10t --output-stride 16")
    home(f"{BERT} --exif stored")
    said = [home(f"{EXPORT} {exp(number)} --save-dir {number}").out for number in (1, 2, 3, 4)]
    for text, runs in {
        "--arch test_resnet": [1, 4],
        "EXIF": [1, 2, 3],
        "class token": [2],
        "cannot normalise": [2],
        "--output-stride 16": [3],
    }.items():
        assert [number for number, out in enumerate(said, 1) if text in out] == runs, text


def test_training_at_another_side_resizes_the_position_table(home):
    """From either form, as --weights does."""
    home(f"{VIT} --img-size 64")
    home(f"{EXPORT} {exp(2)}")
    home(f"infer.py --workers 0 --exp-dir {exp(2)}/published")
    for form in ("", "/published"):
        home(f"{VIT} --img-size 96 --lr 1e-30 --pretrained-model {exp(2)}{form}")
    first, *others = (model(number)["backbone.trunk.pos_embed"] for number in (2, 3, 4))
    for table in others:
        torch.testing.assert_close(table, resize_table(first, (6, 6), 1))


def test_foreign_names_and_keys_are_ignored_and_nothing_is_downloaded(home, monkeypatch):
    """As in published files, whose configs also trained from downloaded weights."""
    download = mock.Mock(side_effect=AssertionError)
    monkeypatch.setattr(backbones, "pretrained_weights", download)
    file = Path(EXPORTED, CHECKPOINT)
    state = torch.load(file)
    state["module.backbone.head.weight"] = torch.ones(7, 9)
    state["module.backbone.head.bias"] = torch.ones(7)
    del state["module.position_embedding.pe"]
    torch.save(state, file)
    with open(f"{EXPORTED}/config.yaml", "a") as config:
        config.write("weights: pretrained\nwarmup_epoch: 2\nlabel_path: /gone\nexp_dir: /gone\n")
    home(f"{EVALUATE} {EXPORTED}")
    np.testing.assert_allclose(scores(EXPORTED), scores(RUN), atol=1e-6)
    assert not download.called


@pytest.mark.parametrize("form", [RUN, EXPORTED, f"{EXPORTED}/{CHECKPOINT}"])
def test_training_starts_from_either_form(home, form):
    """With a learning rate of almost nothing and no network, all but the classifiers comes over."""
    home(f"{BERT} --lr 1e-30 --seed 7 --weights pretrained --pretrained-model {form}")
    first, second = model(1), model(2)
    for name in ("backbone.trunk.layer1.0.conv1.weight", "head.intra_modal.context.linear.weight"):
        torch.testing.assert_close(second[name], first[name])
    name = "head.patch_classifier.0.weight"
    assert not torch.allclose(second[name], first[name])
