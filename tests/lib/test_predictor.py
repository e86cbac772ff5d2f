"""A trained experiment as a library call."""

import dataclasses
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from lib.data.bad_images import BadImages
from lib.data.dataset import read_image
from lib.data.folder import DataFolder
from lib.experiment.predict import collect_scores
from lib.predictor import Predictor
from lib.scoring.boxes import box_around
from tests.helpers.commands import ROOT, make_data, make_experiment, run_here
from tests.helpers.refusals import refused
from tests.lib.scoring.test_tuning import write_tuning

EXPERIMENT = Path("experiments/mlic_colors/exp1")


@pytest.fixture
def make(colors):
    """Predictors of a trained experiment, with its data in the working folder."""
    return lambda **options: Predictor(EXPERIMENT, device="cpu", **options)


def images_of(split="test"):
    return DataFolder.open("colors").split(split).paths[:6]


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize(
    ("flags", "precision", "used", "says"),  # where bfloat16 is emulated
    [
        ((), None, "float32", None),
        (("--amp",), None, "float32", "--precision bfloat16"),
        (("--amp",), "float32", "float32", None),
        (("--amp",), "auto", "float32", None),
        ((), "bfloat16", "bfloat16", "--precision float32"),
    ],
)
def test_bfloat16_is_not_emulated_unasked(
    flags, precision, used, says, native, tmp_path, monkeypatch, capsys
):
    make_data(tmp_path)
    experiment = make_experiment(tmp_path, "--embed-type", "random", *flags)
    monkeypatch.setattr("lib.runtime.device.computes_bfloat16", lambda device: native)
    predictor = Predictor(experiment, device="cpu", precision=precision)
    said = capsys.readouterr().err
    if native:
        bfloat16 = precision == "bfloat16" or (flags and precision != "float32")
        assert predictor.precision == ("bfloat16" if bfloat16 else "float32") and not said
    else:
        assert predictor.precision == used and (says in said if says else not said)


def test_call_and_stream_agree(make):
    predictor = make(workers=0)
    split = DataFolder.open("colors").split("test").head(6)
    scores, heatmaps = predictor(split.paths)
    assert scores.shape == (6, 3) and heatmaps.shape == (6, 3, 2, 2)
    np.testing.assert_allclose(heatmaps.sum((2, 3)), 1, rtol=1e-5)
    found, read = collect_scores(predictor.stream(split, BadImages()), (1, 6, 3))
    found = found[0]
    np.testing.assert_allclose(found, scores, atol=1e-6)
    assert read.all()
    outputs = [prediction.outputs[0] for prediction in predictor.stream(split, BadImages())]
    streamed = np.concatenate([output.evidence.softmax(dim=-1) for output in outputs])
    np.testing.assert_allclose(heatmaps.reshape(6, 3, 4), streamed, atol=1e-6)
    evidence = np.concatenate([output.evidence for output in outputs])
    np.testing.assert_allclose(1 / (1 + np.exp(-evidence.max(axis=-1))), scores, atol=1e-6)
    streamed = np.concatenate([output.attention for output in outputs])
    attention = make(map="attention")(split.paths)[1]
    np.testing.assert_allclose(attention.reshape(6, 3, 4), streamed, atol=1e-6)
    both = make(map="both")(split.paths)[1]
    np.testing.assert_array_equal(both, np.stack([heatmaps, attention], axis=1))


def test_precision_is_a_choice_of_the_one_who_runs_it(make, monkeypatch, capsys):
    exact, again, rounded = (make(precision=one) for one in (None, "float32", "bfloat16"))
    assert [one.precision for one in (exact, again, rounded)] == ["float32"] * 2 + ["bfloat16"]
    scores = [one(images_of())[0] for one in (exact, again, rounded)]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert 0 < np.abs(scores[0] - scores[2]).max() < 0.02
    command = ("evaluate.py", "--exp-dir", str(EXPERIMENT), "--workers", "0")
    for precision in ((), ("--precision", "bfloat16")):
        result = run_here(monkeypatch, capsys, *command, *precision)
        assert result.code == 0 and ("precision: bfloat16" in result.out) is bool(precision)
        results = json.loads((EXPERIMENT / "results.json").read_text())
        expected = precision[1] if precision else "float32"
        assert results["evaluation"]["precision"] == expected
        stored = np.load(EXPERIMENT / "scores.npz")["scores"]
        np.testing.assert_allclose(stored[:6], scores[2 if precision else 0], atol=1e-6)


def test_what_is_found_comes_as_plain_values(make):
    """Labels from their threshold on, the highest first, with boxes in pixels of each picture."""
    predictor, paths = make(), images_of()
    scores, heatmaps = predictor(paths)
    found = predictor.predict(paths, top=2, threshold=0.1)
    assert json.loads(json.dumps(found)) == found and len(found) == len(paths)
    for path, one, row, maps in zip(paths, found, scores, heatmaps, strict=True):
        columns = [predictor.labels.index(label) for label in one["labels"]]
        assert columns == [c for c in np.argsort(-row, kind="stable") if row[c] >= 0.1][:2]
        np.testing.assert_allclose(one["scores"], row[columns], atol=1e-6)
        for column, box in zip(columns, one["boxes"], strict=True):
            expected = box_around(maps[column]) * (Image.open(path).size * 2)
            np.testing.assert_allclose(box, expected, atol=0.06)
    assert predictor.predict([]) == []
    for single in ("photo.jpg", np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), np.uint8)):
        with refused("Predictor"):
            predictor.predict(single)
    write_tuning(predictor.experiment.path, {"red": 1.0, "green": 1.0, "blue": 1.0})
    tuned = make()
    assert tuned.predict(paths[:1])[0]["labels"] == []
    assert len(tuned.predict(paths[:1], threshold=0)[0]["labels"]) == 3
    (predictor.experiment.path / "thresholds.json").unlink()
    with refused("--threshold 7"):
        predictor.predict(paths, threshold=7)


def test_a_stream_is_read_as_it_is_needed(make):
    predictor, paths, read = make(), images_of(), []

    def endless():
        while True:
            read.append(None)
            yield paths[len(read) % len(paths)]

    stream = predictor.predict_each(endless())
    assert next(stream)["labels"] is not None
    assert len(read) == predictor.batch_size


def test_threads_share_a_predictor(make):
    predictor, paths = make(), 4 * images_of()
    expected = predictor.predict(paths, threshold=0.0)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: predictor.predict(paths, threshold=0.0), range(8)))
    assert all(one == expected for one in found)


def test_a_photograph_gives_the_same_however_it_is_passed(make, tmp_path):
    """A path, a Pillow image opened or decoded, an array; those turned already are not turned
    again."""
    note = Image.Exif()
    note[0x0112] = 6
    file = tmp_path / "turned.png"
    image = Image.open("data/colors/images/test0.png")
    image.save(file, exif=note)
    upright = image.transpose(Image.Transpose.ROTATE_270)
    opened, copied = Image.open(file), Image.open(file).convert("RGB")
    already = [read_image(file), ImageOps.exif_transpose(Image.open(file))]
    forms = [file, opened, copied, *already, np.asarray(upright)]
    predictor = make()
    scores, _ = predictor(forms)
    assert (scores == scores[-1]).all() and predictor.labels == ["red", "green", "blue"]
    predictor.config = dataclasses.replace(predictor.config, exif="stored")
    as_stored, _ = predictor([file, opened, copied, np.asarray(image)])
    assert (as_stored == as_stored[-1]).all() and (as_stored[0] != scores[0]).any()


def test_any_number_of_images(make):
    """More than a batch, which was 4 in training; none; and what is no list of pictures."""
    predictor = make()
    pictures = [np.full((9, 5 + n, 3), 20 * n, np.uint8) for n in range(9)]
    scores, attention = predictor(pictures)
    assert scores.shape == (9, 3) and attention.shape == (9, 3, 2, 2)
    np.testing.assert_allclose(scores[8], predictor(pictures[8:])[0][0], atol=1e-6)
    grey = np.full((4, 4), 7, np.uint8)
    colored = np.repeat(grey[..., None], 3, axis=2)
    assert (predictor([grey])[0] == predictor([colored])[0]).all()
    scores, attention = predictor([])
    assert scores.shape == (0, 3) and attention.shape == (0, 3, 2, 2)
    for wrong in (pictures[0] / 255, pictures[0].T, np.zeros((0, 4, 3), np.uint8)):
        with refused("Predictor"):
            predictor([wrong])
    with refused("data/colors/label.txt"):
        predictor(["data/colors/label.txt"])


def test_importing_it_changes_nothing(tmp_path):
    """No output, file, thread, signal handler, random number or setting of torch."""
    code = """
import logging, os, random, signal, sys, threading, warnings
import matplotlib, numpy, scipy.special, scipy.sparse
import torch, torchvision, timm, PIL.Image, torch.utils.tensorboard
def state():
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    settings = torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype()
    cuda = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision
    numbers = torch.get_rng_state().tolist(), numpy.random.get_state()[1].tolist()
    pillow = PIL.Image.MAX_IMAGE_PIXELS, PIL.ImageFile.LOAD_TRUNCATED_IMAGES
    others = random.getstate(), threading.enumerate(), logging.root.handlers, logging.root.level
    place = os.getcwd(), dict(os.environ), os.listdir(), matplotlib.get_backend()
    return handlers, settings, cuda, numbers, pillow, others, place, list(warnings.filters)
before = state()
from lib.predictor import Predictor
assert state() == before
"""
    command = [sys.executable, "-c", code]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stdout and not done.stderr
