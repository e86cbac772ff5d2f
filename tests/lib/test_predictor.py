"""A trained experiment as a library call."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib.evaluation import collect
from lib.manifest import DataFolder
from lib.predictor import Predictor
from tests.commands import TINY, make_data, run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    make_data(folder)
    flags = "--data colors --batch-size 4 --max-epochs 1 --img-size 64 --pos"
    result = run("train.py", *TINY, *flags.split(), cwd=folder)
    assert result.code == 0, result.err
    return folder


def test_call_and_stream_agree(folder, monkeypatch):
    monkeypatch.chdir(folder)
    predictor = Predictor("experiments/mlic_colors/exp1", device="cpu")
    split = DataFolder.open("colors").split("test")
    scores, attention = predictor(split.paths)
    assert scores.shape == (6, 3) and attention.shape == (6, 3, 2, 2)
    np.testing.assert_allclose(attention.sum((2, 3)), 1, rtol=1e-5)
    found, read = collect(predictor.stream(split, 4, 0), (6, 3))
    np.testing.assert_allclose(found, scores, atol=1e-6)
    assert read.all()
    streamed = [prediction.attention[0] for prediction in predictor.stream(split, 4, 0)]
    np.testing.assert_allclose(np.concatenate(streamed), attention.reshape(6, 3, 4), atol=1e-6)


def test_paths_images_and_arrays_give_the_same(folder, monkeypatch):
    monkeypatch.chdir(folder)
    predictor = Predictor(Path("experiments/mlic_colors/exp1"))
    path = "data/colors/images/test0.png"
    image = Image.open(path)
    scores, _ = predictor([path, image, np.asarray(image)])
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[0], scores[2])
    assert predictor.labels == ["red", "green", "blue"]
