"""The cache of resized images: the same bits, made once, and again for changed images."""

import os
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from lib.common.files import UMASK
from lib.data.bad_images import BadImages
from lib.data.cache import cached_images
from lib.data.dataset import ImageDataset
from lib.data.loader import TrainingBatches
from tests.helpers.refusals import refused
from tests.lib.data.conftest import read_batches


@pytest.fixture
def split(split):
    return split.head(5)


def make(split, folder, limit=1.0, exif="upright"):
    return cached_images(split.paths, 16, exif, folder, limit, 2, BadImages())


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_bits(split, tmp_path, workers):
    found = []
    for cached_row in (None, make(split, tmp_path / "cache").row):
        batches = TrainingBatches(5, 3, seed=4)
        dataset = ImageDataset(
            split, 16, "upright", augment="published", seed=4, cached_row=cached_row
        )
        found.append(list(read_batches(dataset, batches, workers)))
    for plain, cached in zip(*found, strict=True):
        assert torch.equal(plain.inputs, cached.inputs) and torch.equal(plain.rows, cached.rows)


def test_a_cache_is_made_once_and_again_for_a_changed_image(split, tmp_path, capsys):
    folder = tmp_path / "cache"
    make(split, folder)
    assert "--cache: 5 images, 0.00 GB in" in capsys.readouterr().out
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert len(before) == 1
    make(split, folder)
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == before
    Image.new("RGB", (9, 9), (1, 2, 3)).save(split.paths[2])
    assert make(split, folder).row(2)[4, 4].tolist() == [1, 2, 3]
    assert len(list(folder.iterdir())) == 2
    os.utime(split.paths[2], ns=(0, 0))
    make(split, folder)
    assert len(list(folder.iterdir())) == 3


def test_upright_and_stored_images_have_caches_of_their_own(split, tmp_path):
    note = Image.Exif()
    note[0x0112] = 3
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[0] = 255
    Image.fromarray(pixels).save(split.paths[2], exif=note)
    for exif, row in (("upright", 15), ("stored", 0), ("upright", 15)):
        found = make(split, tmp_path / "cache", exif=exif).row(2)
        assert np.flatnonzero(found[:, 0, 0]).tolist() == [row]
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_cache_without_room_or_with_an_unreadable_image_is_refused(split, tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    with refused(f"--cache {folder}", "--cache-limit 1e-09"):
        make(split, folder, limit=1e-9)
    assert not folder.exists()
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1e3))
        with refused(f"--cache {folder}", "0.0 GB are free"):
            make(split, folder)
    with open(split.paths[3], "wb") as file:
        file.write(b"no picture")
    with refused(split.paths[3]):
        make(split, folder)
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:-100]),
        lambda file: np.save(file, np.zeros((4, 16, 16, 3), np.uint8)),
        lambda file: np.save(file, np.zeros((5, 16, 16, 3))),
        lambda file: file.with_suffix(".unread.json").write_text("{"),
        lambda file: file.with_suffix(".unread.json").write_text('{"1": 2}'),
    ],
    ids=["empty", "short", "rows", "type", "no JSON", "other JSON"],
)
def test_a_damaged_cache_is_rewritten(split, tmp_path, capsys, damage):
    cache = make(split, tmp_path / "cache")
    expected = [cache.row(row).copy() for row in range(5)]
    damage(cache.file)
    cache = make(split, tmp_path / "cache")
    assert f"warning: {cache.file.parent}" in capsys.readouterr().out
    np.testing.assert_array_equal([cache.row(row) for row in range(5)], expected)
    assert [file.name for file in cache.file.parent.iterdir()] == [cache.file.name]
    assert cache.file.stat().st_mode & 0o777 == 0o666 & ~UMASK  # others may use it too


def test_other_processes_get_the_file_and_not_its_content(split, tmp_path):
    cache = make(split, tmp_path / "cache")
    expected = cache.row(1).copy()
    sent = pickle.dumps(cache)
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent).row(1), expected)
