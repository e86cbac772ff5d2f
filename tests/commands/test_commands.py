"""The whole way from the command line, at toy size: data, train, evaluate, infer."""

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image

from lib.data.folder import DataFolder
from lib.predictor import Predictor
from lib.scoring.heatmap_examples import load_examples
from tests.helpers.commands import RUN, TRAIN, make_data, run, start
from tests.helpers.twins import literal_localization

DIGITS = f"{TRAIN.replace('colors', 'digits')} --img-size 64"
LEARNING = f"{DIGITS} --batch-size 8 --max-epochs 2 --pos --lr 1e-3 --ema-decay 0.5 --workers 1"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A working folder with digits, a trained experiment, its scores and its heatmaps.

    Each in a new interpreter: the only ones whose start-up is that of a user's commands.
    """
    folder = tmp_path_factory.mktemp("work")

    def succeed(command):
        result = run(command, cwd=folder, new_interpreter=True)
        assert result.code == 0, result.err
        return result

    succeed("scripts/digits.py --train 20 --test 9 --size 48")
    train = succeed(LEARNING)
    experiment = "experiments/mlic_digits/exp1"
    evaluate = succeed(f"evaluate.py --exp-dir {experiment} --workers 0")
    infer = succeed(f"infer.py --exp-dir {experiment} --limit 4 --threshold 1")
    return folder, folder / experiment, train, evaluate, infer


def history(experiment):
    return [json.loads(line) for line in (experiment / "history.jsonl").read_text().splitlines()]


def test_digits_keep_the_contract(work):
    data = work[0] / "data" / "digits"
    labels = (data / "label.txt").read_text().split()
    assert labels[0] == "zero" and labels[-1] == "nine" and len(labels) == 10
    boxes = json.loads((data / "boxes.json").read_text())
    lines = (data / "train.txt").read_text().splitlines()
    assert len(lines) == 20
    for line in lines:
        path, names = line.split("\t")
        image = Image.open(work[0] / path)
        assert image.mode == "RGB" and image.size == (48, 48)
        assert {item["label"] for item in boxes[path]} == set(names.split(","))
        assert names.split(",") == [label for label in labels if label in names.split(",")]
        assert 1 <= len(boxes[path]) <= 4
        for item in boxes[path]:
            x0, y0, x1, y1 = item["box"]
            assert 0 <= x0 < x1 <= 48 and 0 <= y0 < y1 <= 48


def test_digits_are_the_same_bytes_each_time(work, tmp_path):
    """In processes that hash text differently."""
    assert run("scripts/digits.py --train 20 --test 9 --size 48", cwd=tmp_path).code == 0
    for file in sorted((work[0] / "data").rglob("*")):
        if file.is_file():
            twin = tmp_path / "data" / file.relative_to(work[0] / "data")
            assert twin.read_bytes() == file.read_bytes(), file


def test_experiment_folder_holds_its_contract(work):
    folder, experiment, train, *_ = work
    config = yaml.safe_load((experiment / "config.yaml").read_text())
    assert config["arch"] == "test_resnet" and config["lr"] == 1e-3
    log = (experiment / "train.log").read_text()
    for part in ("command: python ", "--arch test_resnet", "torch ", "git revision", "config: "):
        assert part in log
    assert "epoch 2/2: loss" in log and "epoch 2/2: loss" in train.out
    rows = history(experiment)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[-1]["best_mAP_ema"] == max(row["mAP_ema"] for row in rows)
    assert list(experiment.glob("events.out.tfevents*"))
    assert (experiment / "curves.png").is_file()
    commands = (folder / "experiments" / "mlic_digits" / "checkpoint.txt").read_text()
    assert commands.startswith("exp1\t") and "--arch test_resnet" in commands
    assert "epoch 1:" in train.err and "images/s" in train.err


def test_checkpoints_load_without_running_code(work):
    checkpoints = work[1] / "checkpoints"
    best = torch.load(checkpoints / "best_ema_model.pth", weights_only=True)
    assert sorted(best) == ["config", "labels", "model"] and len(best["labels"]) == 10
    last = torch.load(checkpoints / "last.pth", weights_only=True)
    assert last["epoch"] == 2 and last["step"] == 6
    assert {"model", "ema", "optimizer", "schedule", "scaler", "config", "labels"} <= set(last)
    assert {"batch", "rng", "best_score", "epochs_without_better", "data"} <= set(last)


def test_evaluation_gives_the_best_epochs_map(work):
    experiment = work[1]
    results = json.loads((experiment / "results.json").read_text())
    assert results["mAP"] == pytest.approx(history(experiment)[-1]["best_mAP_ema"], abs=1e-6)
    kinds = ("threshold", "topk")
    names = {f"{kind}_{part}" for kind in kinds for part in "cp cr cf1 op or of1".split()}
    localization = {"pointing_accuracy", "energy_in_box"}
    names |= {"mAP", "per_label", "mAP_present", "labels_without_positives", "localization"}
    names.add("evaluation")
    assert names | localization == set(results)
    assert all(0 < results[name] <= 1 for name in localization)
    assert all(results["localization"]["attention"][name] == results[name] for name in localization)
    assert list(results["localization"])[0] == "evidence"
    assert results["mAP"] == pytest.approx(np.mean(list(results["per_label"].values())))


def test_labels_without_positives_are_noted(home):
    image = Path("data/colors/test.txt").read_text().split("\t")[0]
    Path("data/colors/test.txt").write_text(f"{image}\tred\n")
    assert "2 of 3 labels have no positive" in home(f"evaluate.py --workers 0 --exp-dir {RUN}").err


def test_evaluation_keeps_the_heatmaps_that_tell_labels_apart(work):
    """They are those of the model, and images with the best ones come first."""
    folder, experiment = work[:2]
    examples = load_examples(experiment)
    predictor = Predictor(experiment, device="cpu", map="both")
    found = [*examples.best, *reversed(examples.worst)]
    assert len(found) > 1 and all(len(one.labels) > 1 for one in found)
    values = [one.discrimination["evidence"] for one in found]
    assert values == sorted(values, reverse=True)
    _, heatmaps = predictor([folder / one.path for one in found])
    for one, grids in zip(found, heatmaps, strict=True):
        for place in one.labels:
            column = predictor.labels.index(place.label)
            stored = [place.grid(name) for name in ("evidence", "attention")]
            np.testing.assert_allclose(stored, grids[:, column], atol=1e-6)


def test_evaluation_writes_its_files(work):
    experiment, evaluate = work[1], work[3]
    table = (experiment / "result.txt").read_text()
    assert table.strip() == evaluate.out.strip()
    scores, per_label, maps = table.strip().split("\n\n")
    assert [line.split()[0] for line in maps.splitlines()[1:]][:2] == ["evidence", "attention"]
    assert scores.startswith(f"{'mAP':<15}\t0.") and len(per_label.splitlines()) == 10
    with np.load(experiment / "scores.npz", allow_pickle=False) as stored:
        assert stored["scores"].dtype == np.float32 and stored["scores"].shape == (9, 10)
        assert stored["targets"].shape == (9, 10)
        paths, values = stored["paths"].tolist(), stored["scores"]
    lines = (experiment / "prediction.txt").read_text().splitlines()
    labels = (work[0] / "data" / "digits" / "label.txt").read_text().split()
    for line, path, row in zip(lines, paths, values, strict=True):
        name, best = line.split("\t")
        assert name == path
        assert best.split(",") == [labels[c] for c in np.argsort(-row, kind="stable")[:3]]


def test_heatmaps_and_page(work):
    experiment, infer = work[1], work[4]
    folder = experiment / "visualization"
    assert infer.out.strip().endswith("visualization/index.html")
    assert "Heatmaps of experiments/mlic_digits/exp1" in (folder / "index.html").read_text()
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    truth = (work[0] / "data" / "digits" / "test.txt").read_text().splitlines()
    assert len(lines) == 4
    for line, row in zip(lines, truth, strict=False):
        path, names = row.split("\t")
        assert line["path"] == path and line["predicted"] == []
        assert sorted(item["label"] for item in line["missed"]) == sorted(names.split(","))
        with np.load(folder / line["heatmaps"], allow_pickle=False) as stored:
            assert stored["attention"].shape == stored["evidence"].shape == (10, 2, 2)
            assert stored["scores"].shape == (10,)
            assert stored["labels"].tolist()[0] == "zero"
    for pictures in ("images", "thumbnails"):
        files = sorted((folder / pictures).iterdir())
        assert len(files) == 4
        Image.open(files[0]).load()


def test_any_pictures_without_the_data_folder(work, tmp_path):
    """A copied checkpoint, without any other file, draws a folder of pictures."""
    experiment = tmp_path / "elsewhere"
    experiment.mkdir()
    shutil.copy(work[1] / "checkpoints" / "best_ema_model.pth", experiment / "model.pth")
    (tmp_path / "pictures" / "deep").mkdir(parents=True)
    Image.new("L", (30, 90), 200).save(tmp_path / "pictures" / "grey <b>.png")
    Image.new("RGBA", (300, 20), (1, 2, 3, 4)).save(tmp_path / "pictures" / "deep" / "wide.webp")
    (tmp_path / "pictures" / "notes.txt").write_text("no picture")
    command = "infer.py --exp-dir elsewhere/model.pth --images pictures --threshold 0"
    result = run(command, cwd=tmp_path)
    assert result.code == 0, result.err
    lines = (experiment / "visualization" / "predictions.jsonl").read_text().splitlines()
    found = {line["path"]: len(line["predicted"]) for line in map(json.loads, lines)}
    assert found == {"pictures/deep/wide.webp": 10, "pictures/grey <b>.png": 10}
    assert result.out.startswith("pictures/deep/wide.webp\n  ")


def test_runs_get_folders_of_their_own_and_the_same_seed_the_same_losses(work):
    """In processes that hash text differently."""
    folder, experiment, *_ = work
    assert run(LEARNING, cwd=folder).code == 0
    runs = sorted(path.name for path in experiment.parent.glob("exp*"))
    assert runs[:2] == ["exp1", "exp2"]
    losses = [[row["train_loss"] for row in history(experiment.parent / name)] for name in runs[:2]]
    assert losses[0] == losses[1] and len(losses[0]) == 2


@pytest.mark.parametrize(
    "flags",
    [
        "--loss bce --optimizer SGD --lr-scheduler StepLR --step-size 1 --augment flip -twd "
        "--cache here --cache-limit 1 --accum-steps 2 --clip-grad 1 --save-every 1 --img-size 64",
        "--optimizer Adam --lr-scheduler ReduceLROnPlateau --normalize-before --num-layers 2 "
        "--backbone-lr-scale 0.1",
        "--amp --select-on val --orid-norm --ema-epoch 1 --tau 0.5 --clip 0.05 --gamma-pos 1",
        "--embed-type glove --norm weights --output-stride 16 --img-size 48 --num-heads 4 "
        "--freeze-backbone",
    ],
)
def test_every_flag_reaches_a_run(here, flags):
    np.save("data/colors/glove.npy", np.random.default_rng(0).random((3, 300)))
    arch = "--arch resnet10t" if "stride" in flags else ""
    here(f"{TRAIN} {arch} --batch-size 4 --max-epochs 2 {flags}")
    assert here(f"evaluate.py --exp-dir {RUN}").out.startswith("mAP")


def test_weights_that_expect_other_pixels_are_noted_once(here):
    torch.save(timm.create_model("test_vit").state_dict(), "vit.pth")
    command = f"{TRAIN} --arch test_vit --limit 4 --max-epochs"
    start = f"--weights vit.pth --pretrained-model {RUN}"
    for flags, notes in {
        "2 --weights vit.pth": 1,
        f"1 {start}": 0,
        "1": 0,
        "1 --weights vit.pth --norm weights": 0,
        "1 --weights vit.pth --orid-norm": 0,
    }.items():
        out = here(f"{command} {flags}").out
        assert out.count("mean (0.5, 0.5, 0.5) and std (0.5, 0.5, 0.5)") == notes
        assert out.count("pass --norm weights") == notes


def test_early_stop(here):
    """A rate too small to change anything gives no better epoch after the first."""
    flags = "--batch-size 6 --max-epochs 9 --lr 1e-30 --ema-decay 0.999999 --estop"
    assert "stopped: 3 validations" in here(f"{TRAIN} {flags}").out
    assert len(history(Path(RUN))) == 4


def test_fewer_and_cheaper_validations(here, monkeypatch):
    """Every second epoch and the last, the EMA model alone: the same weights and EMA scores."""
    monkeypatch.setattr("lib.training.fit.COSTLY_SECONDS", 0.0)
    monkeypatch.setattr("lib.training.fit.COSTLY_SHARE", 0.0)
    states, runs = [], []
    cheaper = "--validate ema --validate-every 2"
    for flags, remedy in {"": "--validate ema", cheaper: "--validate-every"}.items():
        out = here(f"{TRAIN} --batch-size 6 --max-epochs 3 {flags}").out
        assert re.findall(r"note: validation.*(--[a-z-]+(?: ema)?) makes", out) == [remedy]
        experiment = Path(RUN).with_name(f"exp{len(runs) + 1}")
        runs.append(history(experiment))
        last = torch.load(experiment / "checkpoints" / "last.pth", weights_only=True)
        states.append(last["model"] | last["ema"])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    full, cheap = runs
    assert ["mAP_ema" in row for row in cheap] == [False, True, True]
    assert ["best_mAP_ema" in row for row in cheap] == [False, True, True]
    for row, other in zip(full, cheap, strict=True):
        assert "mAP" in row and "mAP" not in other and row["train_loss"] == other["train_loss"]
        assert other.get("mAP_ema", row["mAP_ema"]) == row["mAP_ema"]


def test_starting_from_another_experiment(here):
    """All but the classifiers is taken over, whatever the labels; other layers are refused."""
    command = f"{TRAIN} --batch-size 6 --max-epochs 1 --lr 1e-30"
    here(command)
    Path("data/colors/label.txt").write_text("red\ngreen\nblue\nblack\n")
    again = f"{command} --seed 7 --pretrained-model {RUN}"
    here(again)
    files = [Path(RUN).with_name(f"exp{n}") / "checkpoints/best_ema_model.pth" for n in (1, 2)]
    one, two = (torch.load(file)["model"] for file in files)
    fresh = {
        name
        for name in one
        if not re.search("running|num_batches", name)
        and (one[name].shape != two[name].shape or not torch.allclose(one[name], two[name]))
    }
    parts = ("head.object_classifier", "head.patch_classifier", "head.label_embeddings")
    assert all(name.startswith(parts) for name in fresh)
    assert {"head.patch_classifier.0.weight", "head.label_embeddings"} <= fresh
    here.refused(files[0], f"{again} --num-layers 2")


def test_a_reader_that_leaves_is_no_bug(work, tmp_path):
    """`train.py | head -1`: the run goes on, in silence."""
    reader, writer = os.pipe()
    with open(tmp_path / "err", "w") as err:
        process = start(
            f"{DIGITS} --limit 8 --max-epochs 1", cwd=work[0], stdout=writer, stderr=err.fileno()
        )
    os.close(writer)
    with open(reader) as out:
        out.readline()
    assert process.wait() == 0
    err = (tmp_path / "err").read_text()
    assert "Traceback" not in err and "error" not in err
    runs = (work[0] / "experiments" / "mlic_digits").glob("exp*")
    newest = max(runs, key=lambda run: run.stat().st_ctime)
    assert len((newest / "history.jsonl").read_text().splitlines()) == 1


def test_interrupted_run_leaves_with_130(tmp_path):
    make_data(tmp_path)
    with open(tmp_path / "err", "w") as err:
        process = start(f"{TRAIN} --max-epochs 10000", cwd=tmp_path, stderr=err.fileno())
    rows = tmp_path / "experiments" / "mlic_colors" / "exp1" / "history.jsonl"
    deadline = time.monotonic() + 300
    while not rows.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=300) == 130
    assert "Traceback" not in (tmp_path / "err").read_text()


def test_maps_are_measured_under_their_names(colors, commands):
    """On 2 x 2 patches, against the literal measures of what `Predictor` gives."""
    random = np.random.default_rng(0)
    split = DataFolder.open("colors").split("test")
    boxes = {}
    for path in split.paths:
        ends = np.sort(random.uniform(0, 40, (3, 2, 2)), axis=1).reshape(3, 4).tolist()
        boxes[path] = [
            {"label": label, "box": box}
            for label, box in zip(("red", "green", "blue"), ends, strict=True)
        ]
    Path("data/colors/boxes.json").write_text(json.dumps(boxes))
    commands("evaluate.py --exp-dir", colors)
    found = json.loads((colors / "results.json").read_text())["localization"]
    _, heatmaps = Predictor(colors, device="cpu", map="both")(split.paths)
    assert heatmaps.shape[2:] == (3, 2, 2)
    labels = ["red", "green", "blue"]
    for name, maps in zip(("evidence", "attention"), heatmaps.swapaxes(0, 1), strict=True):
        expected = literal_localization(
            split, labels, boxes, maps.reshape(*maps.shape[:2], 4), (2, 2)
        )
        assert found[name] == pytest.approx(expected, abs=1e-5)
    assert found["evidence"]["energy_in_box"] != found["attention"]["energy_in_box"]
