"""One trained toy experiment for all tests that only need some experiment."""

import runpy
import shutil
import sys

import pytest
import torch
from PIL import Image

from lib.data import dataset
from tests.helpers.commands import ROOT, TINY, make_data


@pytest.fixture(scope="session")
def trained_colors(tmp_path_factory):
    """A working folder with data/colors and the experiment experiments/mlic_colors/exp1."""
    folder = tmp_path_factory.mktemp("colors")
    make_data(folder, images=24)
    flags = "--data colors --batch-size 8 --max-epochs 2 --img-size 64 --pos --lr 1e-3"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        flags = [*flags.split(), "--ema-decay", "0.5"]
        patch.setattr(sys, "argv", ["train.py", *TINY, *flags])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
    assert not end.value.code
    return folder


@pytest.fixture
def colors(trained_colors, tmp_path, monkeypatch):
    """A fresh copy of `trained_colors` to work in; gives the path of its experiment."""
    shutil.copytree(trained_colors, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "experiments" / "mlic_colors" / "exp1"


@pytest.fixture
def no_curves(monkeypatch):
    """Trains without drawing curves, a third of the time of an epoch of a toy."""
    monkeypatch.setattr("lib.experiment.folder.draw_curves", lambda *arguments: None)


@pytest.fixture
def no_initial_values(monkeypatch):
    """Builds networks without drawing their weights, seconds for a large one."""
    for name in ("uniform_", "normal_", "erfinv_"):
        monkeypatch.setattr(torch.Tensor, name, lambda tensor, *arguments, **options: tensor)


@pytest.fixture
def no_heif(monkeypatch):
    """As where pillow-heif is not installed."""
    dataset._known_formats.cache_clear()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    yield
    dataset._known_formats.cache_clear()
