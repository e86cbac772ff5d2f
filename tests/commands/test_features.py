"""`--cache-features`: the same training without a pass of the backbone."""

import json
from pathlib import Path

import pytest
import torch

from tests.helpers.commands import TINY, error_line, make_data, run_here

FLAGS = (
    *TINY,
    *"--data colors --batch-size 4 --max-epochs 2 --img-size 64 --lr 1e-3".split(),
    "--freeze-backbone",
)
CACHED = ("--cache-features", "features")


@pytest.fixture
def here(tmp_path, monkeypatch, capsys, no_curves):
    monkeypatch.chdir(tmp_path)
    make_data(tmp_path)
    return lambda *command: run_here(monkeypatch, capsys, *command)


def history(number):
    lines = Path(f"experiments/mlic_colors/exp{number}/history.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    timeless = ("seconds", "images_per_second")
    return [{name: row[name] for name in row if name not in timeless} for row in rows]


def trained(number):
    """What training gives; scores of validation differ in the last digits, since inference folds
    batch norms."""
    return [(row["train_loss"], row["lr"]) for row in history(number)]


@pytest.mark.parametrize("augment", ["flip", "none"])
def test_the_same_training_and_checkpoint(here, augment):
    """As with the images, of which the flipped ones are the same; the same without the flag would
    see other images."""
    assert here("train.py", *FLAGS, "--augment", augment).code == 0
    result = here("train.py", *FLAGS, *CACHED, *(["--augment", "none"] * (augment == "none")))
    assert result.code == 0, result.err
    views = 2 if augment == "flip" else 1
    assert result.out.count("features: 6 images") == 2
    assert len(list(Path("features").glob(f"*-{views}.npy"))) == (1 if views == 2 else 2)
    assert trained(1) == trained(2)
    assert here("train.py", *FLAGS, "--augment", "flip" if augment == "none" else "none").code == 0
    assert trained(1) != trained(3)
    files = [f"experiments/mlic_colors/exp{n}/checkpoints/best_ema_model.pth" for n in (1, 2)]
    states = [torch.load(file)["model"] for file in files]
    assert states[0].keys() == states[1].keys()
    backbone = [name for name in states[0] if name.startswith("backbone.")]
    assert backbone and all(torch.equal(states[0][name], states[1][name]) for name in backbone)
    folder = "experiments/mlic_colors/exp2"
    assert here("evaluate.py", "--exp-dir", folder, "--workers", "0").code == 0
    results = json.loads((Path(folder) / "results.json").read_text())
    assert results["mAP"] == pytest.approx(max(row["mAP_ema"] for row in history(2)), abs=1e-4)


def test_features_are_made_once_and_again_for_another_backbone(here):
    made = "features: 6 images"
    assert here("train.py", *FLAGS, *CACHED).out.count(made) == 2
    assert made not in here("train.py", *FLAGS, *CACHED, "--model", "mlic", "--lamda", "0.2").out
    assert here("train.py", *FLAGS, *CACHED, "--seed", "5").out.count(made) == 2  # other weights
    assert here("train.py", *FLAGS, *CACHED, "--norm", "none").out.count(made) == 2


@pytest.mark.parametrize(("first", "then"), [((), CACHED), (CACHED, ())])
def test_a_run_of_other_augmentation_is_not_resumed(here, first, then):
    """Without `--augment`, the features are those of flips, and images are published ones."""
    assert here("train.py", *FLAGS, *first).code == 0
    log = Path("experiments/mlic_colors/exp1/train.log")
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))  # unfinished
    result = here("train.py", *FLAGS, *then, "--resume", "auto")
    assert result.code == 0 and "resumed" not in result.out, result.err
    assert Path("experiments/mlic_colors/exp2").exists()
    if not first:
        line = error_line(here("train.py", "--resume", "experiments/mlic_colors/exp1", *CACHED))
        assert "says augment: flip, but the run was trained with --augment published" in line


def test_a_resumed_run_finds_its_features(here):
    whole = here("train.py", *FLAGS, *CACHED, "--save-every", "1")
    assert whole.code == 0, whole.err
    folder = Path("experiments/mlic_colors/exp1")
    before = history(1)
    (folder / "checkpoints/last.pth").unlink()  # the one before is that of the last step but one
    resumed = here("train.py", "--resume", str(folder))
    assert resumed.code == 0 and "features: 6 images" not in resumed.out, resumed.err
    assert history(1) == before


def test_an_unreadable_image_is_skipped_as_without_features(here):
    image = Path("data/colors/train.txt").read_text().split("\t")[0]
    Path(image).write_bytes(b"no picture")
    line = error_line(here("train.py", *FLAGS, *CACHED))
    assert f"{image}: not a readable image" in line
    assert not list(Path("features").iterdir())
    for flags in (("--augment", "flip"), CACHED, CACHED):
        result = here("train.py", *FLAGS, *flags, "--max-bad-images", "2")
        assert result.code == 0 and "skipped 1 images (--max-bad-images 2)" in result.out, (
            result.err
        )
    assert trained(1) == trained(2) == trained(3)


@pytest.mark.parametrize("model", ["linear", "csra", "ml_decoder", "q2l"])
def test_the_heads_of_other_methods(here, model):
    flags = [flag for flag in FLAGS if flag not in ("--embed-type", "random", "--pos")]
    options = ("--hidden-dim", "16") if model == "q2l" else ()
    for extra in (("--augment", "flip"), CACHED):
        result = here("train.py", *flags, "--model", model, *options, *extra)
        assert result.code == 0, result.err
    rows = [
        json.loads(
            Path(f"experiments/{model}_colors/exp{n}/history.jsonl").read_text().split("\n")[1]
        )
        for n in (1, 2)
    ]
    assert rows[0]["train_loss"] == pytest.approx(rows[1]["train_loss"], rel=1e-4)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--augment", "published"), "--augment published: --cache-features has the features of"),
        (("--cache", "here"), "--cache has no effect with --cache-features"),
        (("--cache-limit", "1e-9"), "--cache-features features: 6 images take 0.0 GB, more than"),
    ],
)
def test_flags_that_do_not_go_together(here, flags, says):
    assert says in error_line(here("train.py", *FLAGS, *CACHED, *flags))
    assert not Path("experiments").exists()


def test_a_backbone_in_training_is_refused(here):
    flags = [flag for flag in FLAGS if flag != "--freeze-backbone"]
    line = error_line(here("train.py", *flags, *CACHED))
    assert "pass --freeze-backbone too" in line
