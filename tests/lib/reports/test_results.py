"""What evaluate.py wrote, read back; damaged and foreign files."""

import pickle

import numpy as np
import pytest

from lib.reports.results import open_evaluated, require_same_images
from tests.helpers.evaluated import make_evaluated
from tests.helpers.refusals import refused


def test_what_evaluation_measured_besides_the_scores(tmp_path):
    run = open_evaluated(make_evaluated(tmp_path / "exp1", ignored=0.2))
    assert (run.threshold, run.topk) == (0.5, 3)
    assert run.further == {"pointing_accuracy": 0.75}
    maps = {"evidence": {"pointing_accuracy": 0.9}, "attention": {"pointing_accuracy": 0.75}}
    run.results["localization"] = maps | {"even": {"pointing_accuracy": 0.5}}
    # the single value, which is that of one of the maps, is not compared with other heads' ones
    assert run.further == {
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
    with refused(tmp_path / "gone"):
        open_evaluated(tmp_path / "gone")
    for name in ("results.json", "scores.npz"):
        folder = make_evaluated(tmp_path / f"the {name}")
        (folder / name).unlink()
        with refused(folder / name, f"python evaluate.py --exp-dir '{folder}'"):
            open_evaluated(folder)


class Harm:
    def __reduce__(self):
        return open, ("harm", "w")


OF_IMAGES = ("scores", "targets", "ignore", "paths")


@pytest.mark.parametrize(
    "change",
    [
        *(lambda a: a.pop("labels"), lambda a: a.pop("scores")),
        lambda a: a.update(scores=a["scores"][:, :2]),
        lambda a: a.update(labels=a["labels"][:2]),
        lambda a: a.update(scores=a["scores"][0]),
        lambda a: a.update({name: a[name][:0] for name in OF_IMAGES}),
        lambda a: a.update(scores=a["scores"] + 1),
        lambda a: a.update(scores=a["scores"] * np.nan),
        lambda a: a.update(scores=(a["scores"] > 0.5).astype(int)),
        lambda a: a.update(targets=a["targets"] * 2),
        lambda a: a.update(ignore=a["ignore"] + 0.5),
        lambda a: a.update(labels=np.array(["a", "a", "b"])),
        lambda a: a.update(paths=np.arange(12)),
        lambda a: a.update(paths=np.array([Harm()] * 12)),
    ],
)
def test_files_of_other_content(tmp_path, monkeypatch, change):
    monkeypatch.chdir(tmp_path)
    folder = make_evaluated(tmp_path / "exp1")
    with np.load(folder / "scores.npz") as content:
        arrays = dict(content)
    change(arrays)
    np.savez(folder / "scores.npz", **arrays)
    with refused(folder / "scores.npz", f"python evaluate.py --exp-dir {folder}"):
        open_evaluated(folder)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("damage", [0, 10, 300, -30, "flip", "pickle"])
def test_damaged_files(tmp_path, monkeypatch, damage):
    monkeypatch.chdir(tmp_path)
    folder = make_evaluated(tmp_path / "exp1")
    content = bytearray((folder / "scores.npz").read_bytes())
    if damage == "flip":
        content[120] ^= 255
    else:
        content = pickle.dumps(Harm()) if damage == "pickle" else content[:damage]
    (folder / "scores.npz").write_bytes(content)
    with refused(folder / "scores.npz"):
        open_evaluated(folder)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"mAP": 1}', '{"per_label": 3}', '{"per_label": {"a": 1, "b": 1, "c": 1}}']
)
def test_results_that_are_none(tmp_path, text):
    folder = make_evaluated(tmp_path / "exp1")
    (folder / "results.json").write_text(text)
    with refused(folder / "results.json" if text in ("{", "[]") else folder):
        open_evaluated(folder)


@pytest.mark.parametrize("what", ["labels", "paths", "targets", "ignore"])
def test_other_images_cannot_be_compared(tmp_path, what):
    one, other = (open_evaluated(make_evaluated(tmp_path / name)) for name in ("a", "b"))
    require_same_images([one, other])
    value = getattr(other.stored, what)
    changed = [*value[:-1], "other"] if isinstance(value, list) else 1 - value.astype(int)
    stored = other.stored._replace(**{what: changed})
    with refused(other.path):
        require_same_images([one, other._replace(stored=stored)])
