"""Thresholds and a temperature from val.txt: learned, kept, used, refused where that cannot be."""

import json

import numpy as np
import pytest

from lib.common.errors import UserError
from lib.data.folder import DataFolder, Split
from lib.inference.evaluate import further_results
from lib.predictor import Predictor
from lib.scoring.calibration import calibrate, calibration_error
from lib.scoring.metrics import average_precision, threshold_f1
from lib.scoring.thresholds import Criterion, best_thresholds
from lib.scoring.tuning import Tuning, learn, load_tuning, validation_split
from tests.helpers.commands import error_line, run_here

LABELS = ["red", "green", "blue"]
EXPERIMENT = "experiments/mlic_colors/exp1"
EVALUATE = ("evaluate.py", "--exp-dir", EXPERIMENT, "--workers", "0")
INFER = ("infer.py", "--exp-dir", EXPERIMENT, "--workers", "0", "--limit", "2")


@pytest.fixture
def here(colors, monkeypatch, capsys):
    return lambda *command: run_here(monkeypatch, capsys, *command)


@pytest.fixture
def failing(here):
    return lambda *command: error_line(here(*command))


def stored(colors):
    return json.loads((colors / "thresholds.json").read_text())


def test_tuned_scores_stand_beside_the_fixed_ones(colors, here):
    fixed = here(*EVALUATE)
    assert fixed.code == 0 and "tuned_" not in fixed.out, fixed.err
    result = here(*EVALUATE, "--tune-thresholds", "f1")
    assert result.code == 0, result.err
    assert f"thresholds by f1 on 24 val images are in {EXPERIMENT}/thresholds.json" in result.err
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
    own = best_thresholds(predictor(val.paths)[0], val.targets, val.ignore, Criterion("f1"))
    np.testing.assert_allclose(list(tuning["thresholds"].values()), own, atol=1e-6)
    with np.load(colors / "scores.npz") as raw:
        scores = raw["scores"]
    np.testing.assert_allclose(scores, predictor(test.paths)[0], atol=1e-6)
    arrays = (scores, test.targets, test.ignore)
    thresholds = np.array(list(tuning["thresholds"].values()), np.float32)
    assert kept["tuned_cf1"] == threshold_f1(*arrays, threshold=thresholds).cf1
    warm = calibrate(scores, tuning["temperature"])
    assert kept["ece_calibrated"] == calibration_error(warm, *arrays[1:])
    assert kept["ece"] == calibration_error(*arrays)
    again = here(*EVALUATE)
    assert again.out == table and json.loads((colors / "results.json").read_text()) == kept


def test_inference_takes_the_tuned_thresholds_unless_told_otherwise(colors, here, failing):
    line = failing(*INFER, "--threshold", "tuned")
    assert "has no thresholds.json yet" in line and "evaluate.py --tune-thresholds" in line
    predictor = Predictor(EXPERIMENT, device="cpu")
    assert predictor.cutoffs().values.tolist() == [0.5] * 3
    assert predictor.cutoffs().words == "a score of 0.5"
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


def write_tuning(colors, thresholds, **change):
    """A `thresholds.json` that fits the experiment, but for `change`."""
    tuning = Tuning("recall@0.9", np.zeros(3, np.float32), 0.5, {}, 1.5, 0.2, 0.1)
    content = tuning.to_dict(LABELS, colors / "checkpoints" / "best_ema_model.pth")
    (colors / "thresholds.json").write_text(
        json.dumps(content | {"thresholds": thresholds} | change)
    )


def test_what_was_learned_for_something_else_is_refused(colors, failing):
    checkpoint = colors / "checkpoints" / "best_ema_model.pth"
    good = dict.fromkeys(LABELS, 0.25)
    write_tuning(colors, good)
    found = load_tuning(colors, LABELS, checkpoint)
    assert found.thresholds.tolist() == [0.25] * 3 and found.temperature == 1.5
    for thresholds, change, says in (
        (good, {"labels_sha256": "0"}, "was learned for other labels"),
        (good, {"checkpoint_sha256": "0"}, "was learned for other checkpoint"),
        (good, {"temperature": 0}, "not what evaluate.py writes"),
        (good, {"global": True}, "not what evaluate.py writes"),
        ({"red": 0.5}, {}, "not what evaluate.py writes"),
        ({"red": 0.5, "green": "x", "blue": 0.1}, {}, "not what evaluate.py writes"),
    ):
        write_tuning(colors, thresholds, **change)
        with pytest.raises(UserError, match=f"thresholds.json: {says}.*--tune-thresholds"):
            load_tuning(colors, LABELS, checkpoint)
    assert "thresholds.json: not what evaluate.py writes" in failing(*INFER)
    (colors / "thresholds.json").write_text("{")
    assert "thresholds.json: not readable JSON" in failing(*EVALUATE)


def test_images_to_tune_on_are_held_out(colors, failing, here):
    data = colors.parents[2] / "data" / "colors"
    command = (*EVALUATE, "--tune-thresholds")
    assert "choose f1, precision@X or recall@X" in failing(*command, "best")
    own = (data / "val.txt").read_text()
    first = own.splitlines()[0]
    for name in ("train", "test"):
        text = (data / f"{name}.txt").read_text()
        (data / f"{name}.txt").write_text(f"{text}{first}\n")
        with pytest.raises(UserError, match=f"1 of the 24 images of .*val.txt .* {name}.txt too"):
            validation_split(DataFolder.open("colors"))
        (data / f"{name}.txt").write_text(text)
    (data / "val.txt").unlink()
    line = failing(*command, "f1")
    assert "data/colors/val.txt: no such file; neither train nor test will do" in line
    assert not (colors / "thresholds.json").exists() and not (colors / "results.json").exists()
    for kind, labels in (("positives", "?red,?green,?blue"), ("negatives", "red,green,blue")):
        lines = (f"{line.split(chr(9))[0]}\t{labels}\n" for line in own.splitlines())
        (data / "val.txt").write_text("".join(lines))
        assert f"--tune-thresholds: 0 {kind} in val.txt, fewer than 5" in failing(*command, "f1")
    assert not (colors / "thresholds.json").exists()
    (data / "val.txt").write_text("".join(own.splitlines(keepends=True)[:4]))
    said = here(*command, "f1")
    assert said.code == 0 and "note: 3 of 3 labels take the threshold of all, 0." in said.err
    assert "red (" in said.err and "fewer than 5)" in said.err
    content = stored(colors)
    assert set(content["thresholds"].values()) == {content["global"]}
    assert sorted(content["fallbacks"]) == ["blue", "green", "red"]


def test_unknown_entries_take_no_part_in_any_score():
    random = np.random.default_rng(0)
    shape, labels = (40, 4), list("abcd")
    scores = random.random(shape).astype(np.float32)
    targets = (random.random(shape) < 0.5).astype(np.uint8)
    targets[:, 3] = 0
    ignore = random.random(shape) < 0.3
    ignore[targets[:, 0] == 1, 0] = True
    found = []
    for truth in (targets, np.where(ignore, 1 - targets, targets)):
        split = Split("test", [str(row) for row in range(40)], truth, ignore)
        tuning = learn(scores, split, labels, Criterion("f1"), default=0.5)
        precisions = average_precision(scores, truth, ignore)
        per_label = dict(zip(labels, precisions.tolist(), strict=True))
        found.append(further_results(per_label, scores, split, tuning))
        assert found[-1]["labels_without_positives"] == ["a", "d"]
        assert found[-1]["mAP_present"] == pytest.approx(precisions[1:3].mean())
    assert found[0] == found[1]
    nothing = Split("test", split.paths, targets, np.ones(shape, bool))
    assert further_results(per_label, scores, nothing, None)["mAP_present"] == 0
