"""Thresholds and a temperature from val.txt: learned, kept, used, refused where that cannot be."""

import json

import numpy as np
import pytest

from lib.data.folder import DataFolder
from lib.data.split import Split
from lib.inference.evaluate import compute_results
from lib.predictor import Predictor
from lib.scoring.calibration import calibrate, calibration_error
from lib.scoring.metrics import average_precision, f1_scores
from lib.scoring.thresholds import Criterion, best_thresholds
from lib.scoring.tuning import Tuning, learn, load_tuning, validation_split
from tests.helpers.commands import error_line, error_where, run_here
from tests.helpers.refusals import refused

LABELS = ["red", "green", "blue"]
EXPERIMENT = "experiments/mlic_colors/exp1"
EVALUATE = ("evaluate.py", "--exp-dir", EXPERIMENT, "--workers", "0")
INFER = ("infer.py", "--exp-dir", EXPERIMENT, "--workers", "0", "--limit", "2")


@pytest.fixture
def here(colors, monkeypatch, capsys):
    return lambda *command: run_here(monkeypatch, capsys, *command)


def stored(colors):
    return json.loads((colors / "thresholds.json").read_text())


def test_tuned_scores_stand_beside_the_fixed_ones(colors, here):
    fixed = here(*EVALUATE)
    assert fixed.code == 0 and "tuned_" not in fixed.out, fixed.err
    result = here(*EVALUATE, "--tune-thresholds", "f1")
    assert result.code == 0, result.err
    kept, tuning = json.loads((colors / "results.json").read_text()), stored(colors)
    assert list(tuning["thresholds"]) == LABELS and tuning["criterion"] == "f1"
    table = (colors / "result.txt").read_text()
    assert result.out == table
    rows = [line.split("\t")[0].strip() for line in table.split("\n\n")[0].splitlines()]
    names = "cp cr cf1 op or of1".split()
    expected = ["mAP", *(f"{kind}_{name}" for kind in ("threshold", "topk") for name in names)]
    expected += ["mAP_present", *(f"tuned_{name}" for name in names)]
    assert rows == [*expected, "temperature", "ece", "ece_calibrated"]

    predictor = Predictor(EXPERIMENT, device="cpu")
    val, test = (DataFolder.open("colors").split(name) for name in ("val", "test"))
    own = best_thresholds(predictor(val.paths)[0], *val.dense(), Criterion("f1"))
    np.testing.assert_allclose(list(tuning["thresholds"].values()), own, atol=1e-6)
    with np.load(colors / "scores.npz") as raw:
        scores = raw["scores"]
    np.testing.assert_allclose(scores, predictor(test.paths)[0], atol=1e-6)
    arrays = (scores, *test.dense())
    thresholds = np.array(list(tuning["thresholds"].values()), np.float32)
    assert kept["tuned_cf1"] == f1_scores(*arrays, threshold=thresholds).cf1
    warm = calibrate(scores, tuning["temperature"])
    assert kept["ece_calibrated"] == calibration_error(warm, *arrays[1:])
    assert kept["ece"] == calibration_error(*arrays)
    again = here(*EVALUATE)
    assert again.out == table and json.loads((colors / "results.json").read_text()) == kept


def test_inference_takes_the_tuned_thresholds_unless_told_otherwise(colors, here):
    assert error_where(here(*INFER, "--threshold", "tuned")) == "--threshold tuned"
    predictor = Predictor(EXPERIMENT, device="cpu")
    assert predictor.cutoffs().values.tolist() == [0.5] * 3
    write_tuning(colors, {"red": 0.0, "green": 1.0, "blue": 0.0})
    predictor = Predictor(EXPERIMENT, device="cpu")  # it reads them once
    assert predictor.cutoffs().values.tolist() == [0.0, 1.0, 0.0]
    assert predictor.cutoffs(0.25).values.tolist() == [0.25] * 3
    assert here(*INFER).code == 0
    page = (colors / "visualization" / "index.html").read_text()
    assert "labels from tuned thresholds (recall@0.9)" in page
    lines = (colors / "visualization" / "predictions.jsonl").read_text().splitlines()
    found = [{item["label"] for item in json.loads(line)["predicted"]} for line in lines]
    assert found == [{"red", "blue"}] * len(found) and found


def make_tuning(thresholds, criterion="recall@0.9"):
    return Tuning(criterion, 0.5, thresholds, {}, 1.5, 0.2, 0.1, "", "")


def write_tuning(colors, thresholds, **change):
    """A `thresholds.json` that fits the experiment, but for `change`."""
    content = make_tuning(thresholds).to_dict(colors / "checkpoints" / "best_ema_model.pth")
    (colors / "thresholds.json").write_text(json.dumps(content | change))


@pytest.mark.parametrize(
    ("thresholds", "change"),
    [
        (dict.fromkeys(["red", "green", "black"], 0.25), {}),  # other labels
        ({"red": 0.5}, {}),
        ({"red": 0.5, "green": "x", "blue": 0.1}, {}),
        (dict.fromkeys(LABELS, 0.25), {"checkpoint_sha256": "0"}),
        (dict.fromkeys(LABELS, 0.25), {"temperature": 0}),
        (dict.fromkeys(LABELS, 0.25), {"global": True}),
        (dict.fromkeys(LABELS, 0.25), {"ece": 2}),
    ],
)
def test_what_was_learned_for_something_else_is_refused(colors, here, thresholds, change):
    file = colors / "thresholds.json"
    write_tuning(colors, thresholds, **change)
    with refused(file, "--tune-thresholds"):
        load_tuning(colors, LABELS, colors / "checkpoints" / "best_ema_model.pth")
    if change.get("ece"):
        assert error_where(here(*INFER)) == f"{EXPERIMENT}/thresholds.json"
        file.write_text("{")
        assert error_where(here(*EVALUATE)) == f"{EXPERIMENT}/thresholds.json"


def test_images_to_tune_on_are_held_out(colors, here):
    data, command = colors.parents[2] / "data" / "colors", (*EVALUATE, "--tune-thresholds")
    assert error_where(here(*command, "best")) == "--tune-thresholds best"
    own = (data / "val.txt").read_text().splitlines(keepends=True)
    for name in ("train", "test"):
        text = (data / f"{name}.txt").read_text()
        (data / f"{name}.txt").write_text(text + own[0])
        with refused("--tune-thresholds", "1 of", "val.txt", f"{name}.txt"):
            validation_split(DataFolder.open("colors"))
        (data / f"{name}.txt").write_text(text)
    (data / "val.txt").unlink()
    assert "data/colors/val.txt" in error_line(here(*command, "f1"))
    for kind, labels in (("positives", "?red,?green,?blue"), ("negatives", "red,green,blue")):
        lines = (f"{line.split(chr(9))[0]}\t{labels}\n" for line in own)
        (data / "val.txt").write_text("".join(lines))
        line = error_line(here(*command, "f1"))
        assert "--tune-thresholds: " in line and f"0 {kind}" in line
    assert not (colors / "thresholds.json").exists() and not (colors / "results.json").exists()
    (data / "val.txt").write_text("".join(own[:4]))
    said = here(*command, "f1")
    assert said.code == 0 and "note: 3 of 3 labels" in said.err
    content = stored(colors)
    assert set(content["thresholds"].values()) == {content["global"]}
    assert sorted(content["fallbacks"]) == ["blue", "green", "red"]


def test_unknown_entries_take_no_part_in_any_score(tmp_path):
    random = np.random.default_rng(0)
    shape, labels = (40, 4), list("abcd")
    scores = random.random(shape).astype(np.float32)
    targets = (random.random(shape) < 0.5).astype(np.uint8)
    targets[:, 3] = 0
    ignore = random.random(shape) < 0.3
    ignore[targets[:, 0] == 1, 0] = True
    (tmp_path / "weights").touch()
    found = []
    for truth in (targets, np.where(ignore, 1 - targets, targets)):
        split = Split.from_dense("test", [str(row) for row in range(40)], truth, ignore)
        tuning = learn(scores, split, labels, Criterion("f1"), tmp_path / "weights", default=0.5)
        known = {"threshold": 0.5, "topk": 2, "localization": {}}
        found.append(compute_results(scores, split, labels, **known, tuning=tuning))
        precisions = average_precision(scores, truth, ignore)
        assert found[-1]["per_label"] == dict(zip(labels, precisions, strict=True))
        assert found[-1]["labels_without_positives"] == ["a", "d"]
        assert found[-1]["mAP_present"] == pytest.approx(precisions[1:3].mean())
    assert found[0] == found[1]
    nothing = Split.from_dense("test", split.paths, targets, np.ones(shape, bool))
    assert compute_results(scores, nothing, labels, **known, tuning=None)["mAP_present"] == 0
