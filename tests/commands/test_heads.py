"""Runs with the heads of other methods, from training to heatmaps."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.helpers.commands import TINY, error_line, make_data, run_here

FLAGS = tuple(
    flag
    for flag in (
        *TINY,
        *"--data colors --batch-size 4 --max-epochs 1 --img-size 64 --lr-scheduler StepLR".split(),
    )
    if flag not in ("--embed-type", "random", "--pos")
)
# the first decides the score
MAPS = {
    "linear": ("evidence",),
    "csra": ("evidence", "attention"),
    "ml_decoder": ("attention",),
    "q2l": ("attention",),
    "mlic": ("evidence", "attention"),
}


@pytest.fixture
def here(tmp_path, monkeypatch, capsys, no_curves):
    monkeypatch.chdir(tmp_path)
    data = make_data(tmp_path)
    boxes = [{"label": label, "box": [1, 2, 30, 35]} for label in ("red", "green", "blue")]
    paths = [line.split("\t")[0] for line in (data / "test.txt").read_text().splitlines()]
    (data / "boxes.json").write_text(json.dumps({path: boxes for path in paths}))
    return lambda *command: run_here(monkeypatch, capsys, *command)


@pytest.mark.parametrize(
    "flags",
    [
        ("linear",),
        ("csra", "--csra-heads", "4"),
        ("ml_decoder",),
        ("q2l", "--hidden-dim", "16"),
        ("mlic", "--embed-type", "random", "--no-context"),
    ],
)
def test_a_head_from_training_to_heatmaps(here, flags):
    result = here("train.py", *FLAGS, "--model", *flags)
    assert result.code == 0, result.err
    folder = f"experiments/{flags[0]}_colors/exp1"
    assert here("evaluate.py", "--exp-dir", folder, "--workers", "0").code == 0
    results = json.loads((Path(folder) / "results.json").read_text())
    assert 0 <= results["mAP"] <= 1
    maps = MAPS[flags[0]]
    expected = [*maps, *(f"{name}, label-blind" for name in maps), "even"]
    assert list(results["localization"]) == expected
    single = results["localization"][maps[-1]]["energy_in_box"]
    assert results["energy_in_box"] == single
    assert here("scripts/report.py", "--exp-dir", folder, "--resamples", "20").code == 0
    exported = here("scripts/export.py", "--exp-dir", folder, "--format", "hub", "--out", "hub")
    assert exported.code == 0, exported.err
    shows = {"evidence": "score comes from", "attention": "where each label looked"}[maps[0]]
    assert shows in Path("hub/README.md").read_text()
    if len(maps) == 1:
        (other,) = {"evidence", "attention"} - {*maps}
        line = error_line(here("infer.py", "--exp-dir", folder, "--map", other))
        assert f"--map {other}: --model {flags[0]} has no {other}: pass --map {maps[0]}" in line
    assert here("infer.py", "--exp-dir", folder, "--limit", "2", "--workers", "0").code == 0
    assert (Path(folder) / "visualization/index.html").is_file()
    again = (*FLAGS, "--model", *flags, "--pretrained-model", folder)
    assert here("train.py", *again).code == 0
    resumed = here("train.py", "--resume", folder, "--max-epochs", "2")
    assert resumed.code == 0, resumed.err
    line = error_line(here("scripts/export.py", "--exp-dir", folder, "--format", "published"))
    unknown = "--no-context" if flags[0] == "mlic" else f"--model {flags[0]}"
    assert f"has {unknown}, which the published code does not know" in line


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (
            ("--model", "csra", "--lamda", "0.4"),
            "--lamda: belongs to --model mlic, and has no effect",
        ),
        (("--model", "linear", "--pos"), "--pos: belongs to --model mlic"),
        (("--csra-heads", "4"), "--csra-heads: belongs to --model csra"),
        (
            ("--model", "csra", "--csra-heads", "3"),
            "--csra-heads: invalid choice: 3 (choose from 1, 2, 4, 6, 8)",
        ),
        (("--model", "q2l", "--hidden-dim", "18"), "--hidden-dim 18: must be a multiple of 4"),
        (("--model", "q2l", "--hidden-dim", "-4"), "--hidden-dim -4: must be 1 or more"),
        (("--model", "q2l", "--hidden-dim", "0"), "--hidden-dim 0: must be 1 or more"),
        (("--model", "csra", "--csra-lambda", "nan"), "--csra-lambda nan: must be 0 or more, and"),
        (("--model", "mlp"), "invalid choice: 'mlp'"),
    ],
)
def test_flags_of_other_heads_are_refused(here, flags, says):
    # Python 3.12 and newer quote the choice of a number, too
    line = error_line(here("train.py", *FLAGS, *flags)).replace("'", "")
    assert says.replace("'", "") in line
    assert not Path("experiments").exists()


def test_weights_of_an_experiment_bring_its_backbone_to_any_head(here):
    assert here("train.py", *FLAGS, "--model", "linear").code == 0
    first = "experiments/linear_colors/exp1"
    still = ("--lr", "1e-30", "--freeze-backbone", "--model", "csra")
    for source in (first, f"{first}/checkpoints/best_ema_model.pth"):
        result = here("train.py", *FLAGS, *still, "--weights", source)
        assert result.code == 0, result.err

    def backbone(folder):
        state = torch.load(f"{folder}/checkpoints/best_ema_model.pth")["model"]
        return {name: value for name, value in state.items() if name.startswith("backbone.")}

    expected = backbone(first)
    for folder in ("experiments/csra_colors/exp1", "experiments/csra_colors/exp2"):
        for name, value in backbone(folder).items():
            assert torch.equal(value, expected[name]), name
    # what was trained with it is resumed without it
    shutil.rmtree(first)
    resumed = here("train.py", "--resume", "experiments/csra_colors/exp1", "--max-epochs", "2")
    assert resumed.code == 0, resumed.err


def test_weights_of_an_experiment_with_another_backbone_are_refused(here):
    assert here("train.py", *FLAGS, "--model", "linear").code == 0
    flags = (*FLAGS, "--model", "linear", "--arch", "resnet10t", "--weights")
    line = error_line(here("train.py", *flags, "experiments/linear_colors/exp1"))
    assert "best_ema_model.pth: does not fit resnet10t" in line
    line = error_line(here("train.py", *flags, "experiments"))
    assert "--weights experiments/checkpoints/best_ema_model.pth: no such file" in line


def test_an_experiment_of_another_head_is_refused(here):
    assert here("train.py", *FLAGS, "--model", "linear").code == 0
    start = ("--pretrained-model", "experiments/linear_colors/exp1")
    line = error_line(here("train.py", *FLAGS, "--model", "csra", *start))
    assert "a checkpoint of another --model: it has head.classifier.weight" in line
    mlic = (*TINY, *"--data colors --batch-size 4 --max-epochs 1".split())
    line = error_line(here("train.py", *mlic, *start))
    assert "a checkpoint of another --model: it lacks head.inter_modal." in line
    assert here("train.py", *mlic).code == 0
    start = ("--pretrained-model", "experiments/mlic_colors/exp1")
    line = error_line(here("train.py", *mlic, *start, "--no-context"))
    assert "a checkpoint of another --no-context: it has head.intra_modal." in line
    q2l = (*FLAGS, "--model", "q2l", "--hidden-dim")
    assert here("train.py", *q2l, "16").code == 0
    start = ("--pretrained-model", "experiments/q2l_colors/exp1")
    line = error_line(here("train.py", *q2l, "32", *start))
    assert "head.projection.weight is float32 (16, 96)" in line
