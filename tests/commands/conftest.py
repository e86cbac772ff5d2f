"""Working folders in which the tests run commands."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.commands import RUN, TRAIN, Here, inside, make_data, make_experiment


@pytest.fixture
def commands(monkeypatch, capsys) -> Here:
    """Runs commands in the folder that the test has made the working folder."""
    return Here(monkeypatch, capsys)


@pytest.fixture
def here(commands, tmp_path, monkeypatch, no_curves) -> Here:
    """Runs commands in a fresh folder with data/colors."""
    monkeypatch.chdir(tmp_path)
    make_data(tmp_path)
    return commands


@pytest.fixture(scope="session")
def made_home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    np.save(make_data(folder) / "bert.npy", np.random.default_rng(0).normal(size=(3, 12)))
    with inside(folder) as here:
        flags = "--embed-type bert --pos --batch-size 4 --max-epochs 2 --lr-scheduler StepLR"
        here(f"{TRAIN} {flags}")
        here(f"evaluate.py --workers 0 --exp-dir {RUN}")
        here(f"scripts/export.py --format published --exp-dir {RUN}")
    (folder / RUN / "checkpoints" / "last.prev.pth").unlink()
    return folder


@pytest.fixture
def home(made_home, commands, tmp_path, monkeypatch, no_curves) -> Here:
    """Runs commands in a fresh folder with data/colors and RUN, which has results and an export in
    the published form."""
    shutil.copytree(made_home, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return commands


@pytest.fixture(scope="session")
def made_toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    make_data(folder, images=9)
    make_experiment(folder, "--img-size", "64")
    return folder


@pytest.fixture
def toy(made_toy, tmp_path, monkeypatch) -> Path:
    """A working folder with data/colors and an experiment of random weights; gives the latter."""
    shutil.copytree(made_toy, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "experiments" / "toy"
