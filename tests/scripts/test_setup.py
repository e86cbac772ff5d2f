"""Which environment scripts/setup.sh installs into."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.commands import ROOT, Result, error_where

CALLER = '. scripts/setup.sh {files}; python -c "import sys; print(sys.prefix)"'


def test_without_a_virtual_environment_one_is_made(tmp_path):
    """What is active but no virtual environment is left alone, conda's base too."""
    path, conda = f"{sys.base_prefix}/bin:/usr/bin:/bin", {"CONDA_PREFIX": "/opt/conda"}
    found = prefix(tmp_path, path, "requirements.txt", **conda)
    assert found == str(tmp_path / ".venv")


def test_an_active_virtual_environment_is_taken(tmp_path):
    own = tmp_path / "own"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", own], check=True)
    assert prefix(tmp_path, f"{own}/bin:/usr/bin:/bin") == str(own)
    assert not (tmp_path / ".venv").exists()


def prefix(folder: Path, path: str, files: str = "", **variables: str) -> str:
    """The environment in which a script of `folder` runs that installs `files`, which are empty."""
    (folder / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "setup.sh", folder / "scripts")
    (folder / "requirements.txt").touch()
    env = {"PATH": path, "HOME": os.environ.get("HOME", "/"), **variables}
    command = ["bash", "-euo", "pipefail", "-c", CALLER.format(files=files)]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("flags", "where"),
    [("--voc", "usage"), ("--coco x", "usage"), ("--voc gone", "--voc gone")],
)
def test_wrong_arguments_of_the_demo_install_nothing(tmp_path, flags, where):
    command = ["bash", str(ROOT / "scripts" / "demo.sh"), *flags.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert error_where(Result(done.returncode, done.stdout, done.stderr)) == where
    assert not done.stdout
