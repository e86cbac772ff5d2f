"""A small experiment without training, for the tests of infer.py."""

import shutil

import pytest

from tests.helpers.commands import make_data, make_experiment


@pytest.fixture(scope="session")
def made_toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    make_data(folder, images=9)
    make_experiment(folder, "--img-size", "64")
    return folder


@pytest.fixture
def toy(made_toy, tmp_path, monkeypatch):
    """A working folder with data/colors and an experiment of random weights; gives the latter."""
    shutil.copytree(made_toy, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "experiments" / "toy"
