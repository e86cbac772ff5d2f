"""The script that starts a cluster on this machine, and what it says where it cannot."""

import os
import shutil
import subprocess

import pytest

from tests.helpers.commands import ROOT

COMMAND = ["bash", ROOT / "scripts" / "cluster_check.sh"]


def test_without_its_packages_it_says_so_in_one_line(tmp_path):
    for name in ("bash", "dirname", "id"):
        os.symlink(shutil.which(name) or "", tmp_path / name)
    done = subprocess.run(COMMAND, capture_output=True, text=True, env={"PATH": str(tmp_path)})
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.count("\n") == 1 and "cluster_check.sh: error: " in done.stderr
    assert ("slurm-wlm" if os.getuid() == 0 else "root") in done.stderr


@pytest.mark.slow
def test_a_cluster_of_two_nodes():
    done = subprocess.run(COMMAND, capture_output=True, text=True)
    if done.returncode == 2:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout and done.stdout.count(" ok ") == 9
