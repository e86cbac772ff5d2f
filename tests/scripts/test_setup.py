"""Which environment scripts/setup.sh installs into."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.commands import ROOT

CALLER = '. scripts/setup.sh requirements.txt; python -c "import sys; print(sys.prefix)"'


@pytest.mark.parametrize("variables", [{}, {"CONDA_PREFIX": "/opt/conda"}], ids=["none", "conda"])
def test_without_a_virtual_environment_one_is_made(tmp_path, variables):
    """What is active but no virtual environment is left alone, conda's base too."""
    base = Path(sys.base_prefix) / "bin"
    assert prefix(tmp_path, f"{base}:/usr/bin:/bin", variables) == str(tmp_path / ".venv")


def test_an_active_virtual_environment_is_taken(tmp_path):
    own = tmp_path / "own"
    subprocess.run([sys.executable, "-m", "venv", own], check=True)
    assert prefix(tmp_path, f"{own}/bin:/usr/bin:/bin", {}) == str(own)
    assert not (tmp_path / ".venv").exists()


def prefix(folder: Path, path: str, variables: dict[str, str]) -> str:
    """The environment in which a script of `folder` runs, with nothing to install."""
    (folder / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "setup.sh", folder / "scripts")
    (folder / "requirements.txt").touch()
    env = {"PATH": path, "HOME": os.environ.get("HOME", "/"), **variables}
    command = ["bash", "-euo", "pipefail", "-c", CALLER]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--voc",), "usage: bash scripts/demo.sh [--voc FOLDER]"),
        (("--coco", "x"), "usage: bash scripts/demo.sh [--voc FOLDER]"),
        (("--voc", "gone"), "--voc gone: no VOC 2007 in the official layout: gone/JPEGImages is"),
    ],
)
def test_wrong_arguments_of_the_demo_install_nothing(tmp_path, flags, says):
    command = ["bash", str(ROOT / "scripts" / "demo.sh"), *flags]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and f"demo.sh: error: {says}" in done.stderr
    assert not done.stdout
