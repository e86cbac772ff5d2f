"""What evaluate.py wrote, read back; damaged and foreign files."""

import json
import pickle

import numpy as np
import pytest

from lib.common.errors import UserError
from lib.data.folder import Split
from lib.inference.evaluate import compute_results
from lib.reports.results import open_evaluated, require_same_images
from tests.helpers.evaluated import make_evaluated


def test_the_summary_is_that_of_the_evaluation(tmp_path):
    run = open_evaluated(make_evaluated(tmp_path / "exp1", ignored=0.2))
    stored = run.stored
    split = Split("test", stored.paths, stored.targets, stored.ignore)
    expected = compute_results(stored.scores, split, stored.labels, threshold=0.4, topk=2)
    del expected["per_label"]
    assert stored.summary(0.4, 2) == expected
    assert (run.threshold, run.topk) == (0.5, 3)
    assert run.further == {"pointing_accuracy": 0.75} and run.of_maps == {}
    maps = {"evidence": {"pointing_accuracy": 0.9}, "attention": {"pointing_accuracy": 0.75}}
    run.results["localization"] = maps | {"even": {"pointing_accuracy": 0.5}}
    # the single value, which is that of one of the maps, is not compared with other heads' ones
    assert run.further == {}
    assert run.of_maps == {
        "evidence_pointing_accuracy": 0.9,
        "attention_pointing_accuracy": 0.75,
    }


def test_a_checkpoint_file_stands_for_its_folder(tmp_path):
    folder = make_evaluated(tmp_path)
    (folder / "best_ema_model.pth").write_bytes(b"")
    (folder / "config.yaml").unlink()
    run = open_evaluated(folder / "best_ema_model.pth")
    assert run.path == folder and run.config is None and (run.threshold, run.topk) == (0.5, 3)


def test_what_was_not_evaluated(tmp_path):
    with pytest.raises(UserError, match="gone: no such experiment"):
        open_evaluated(tmp_path / "gone")
    for name in ("results.json", "scores.npz"):
        folder = make_evaluated(tmp_path / f"the {name}")
        (folder / name).unlink()
        says = f"{name}: no such file; run python evaluate.py --exp-dir '{folder}' first"
        with pytest.raises(UserError, match=says):
            open_evaluated(folder)


class Harm:
    def __reduce__(self):
        return open, ("harm", "w")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a: a.pop("labels"), "lacks labels"),
        (lambda a: a.pop("scores"), "lacks scores"),
        (lambda a: a.update(scores=a["scores"][:, :2]), "have different shapes"),
        (lambda a: a.update(labels=a["labels"][:2]), "12 paths and 2 labels"),
        (lambda a: a.update(scores=a["scores"][0]), r"shape \(3,\), not"),
        (lambda a: a.update(scores=a["scores"] + 1), r"scores outside \[0, 1\]"),
        (lambda a: a.update(scores=a["scores"] * np.nan), r"scores outside \[0, 1\]"),
        (lambda a: a.update(targets=a["targets"] * 2), "other values than 0 and 1"),
        (lambda a: a.update(labels=np.array(["a", "a", "b"])), "a label is a duplicate"),
        (lambda a: a.update(paths=np.arange(12)), "paths or labels are not text"),
        (lambda a: a.update(labels=np.array(["a", "b", "c"])), "not of the same labels"),
        (lambda a: a.update(paths=np.array([Harm()] * 12)), "a damaged file, or no scores"),
    ],
)
def test_scores_that_do_not_fit(tmp_path, monkeypatch, change, says):
    monkeypatch.chdir(tmp_path)
    folder = make_evaluated(tmp_path / "exp1")
    with np.load(folder / "scores.npz") as content:
        arrays = dict(content)
    change(arrays)
    np.savez(folder / "scores.npz", **arrays)
    with pytest.raises(UserError, match=says) as caught:
        open_evaluated(folder)
    assert f"run python evaluate.py --exp-dir {folder} again" in str(caught.value)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("cut", [0, 10, 300, -30])
def test_damaged_files(tmp_path, cut):
    folder = make_evaluated(tmp_path / "exp1")
    content = (folder / "scores.npz").read_bytes()
    (folder / "scores.npz").write_bytes(content[:cut])
    with pytest.raises(UserError, match="scores.npz: a damaged file, or no scores"):
        open_evaluated(folder)


def test_a_flipped_byte_and_a_bare_pickle(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = make_evaluated(tmp_path / "exp1") / "scores.npz"
    content = bytearray(file.read_bytes())
    content[120] ^= 255
    for damaged in (content, pickle.dumps(Harm())):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match="scores.npz: a damaged file, or no scores"):
            open_evaluated(file.parent)
    assert not (tmp_path / "harm").exists()


def test_results_that_are_none(tmp_path):
    folder = make_evaluated(tmp_path / "exp1")
    for text in ("{", "[]", json.dumps({"mAP": 1}), json.dumps({"per_label": 3})):
        (folder / "results.json").write_text(text)
        with pytest.raises(UserError, match="results.json"):
            open_evaluated(folder)


@pytest.mark.parametrize("what", ["labels", "paths", "targets", "ignore"])
def test_other_images_cannot_be_compared(tmp_path, what):
    one, other = (open_evaluated(make_evaluated(tmp_path / name)) for name in ("a", "b"))
    require_same_images([one, other])
    value = getattr(other.stored, what)
    changed = [*value[:-1], "other"] if isinstance(value, list) else 1 - value.astype(int)
    stored = other.stored._replace(**{what: changed})
    with pytest.raises(UserError, match="b: was evaluated on other .* than .*a: such runs cannot"):
        require_same_images([one, other._replace(stored=stored)])
