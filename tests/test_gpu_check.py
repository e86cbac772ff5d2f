"""The command that checks a GPU: its benchmarks as toys on the CPU, and how it goes on after one
fails."""

import json
import math
import subprocess
import sys
import time

import pytest
import torch

from benchmarks import gpu_check, kernel
from benchmarks.gpu_check import CHECKS, Check
from models import bilinear
from tests.helpers.commands import ROOT, run_here

SLOW = ("processes.py", "digits_training.py", "commands.py", "devices.py")  # which start commands
TOYS = [check for check in CHECKS if check.toy and check.script not in SLOW]
FAKES = {
    "good.py": "import json, sys; json.dump({'title': 'a title', 'machine': 'm', 'versions': 'v', "
    "'rows': [{'form': 'ours', 'seconds': 0.5}], 'figures': {'speed': 12.5}}, "
    "open(sys.argv[-1], 'w'))",
    "bad.py": "import os; print('gpu', os.environ['CUDA_VISIBLE_DEVICES']); "
    "raise SystemExit('out of memory')",
    "endless.py": "import time; time.sleep(600)",
}


@pytest.mark.parametrize("check", TOYS, ids=lambda check: check.script)
def test_a_benchmark_as_a_toy(check, tmp_path, monkeypatch, capsys):
    file = tmp_path / "result.json"
    flags = check.toy.format(device="cpu", work=tmp_path).split()
    result = run_here(monkeypatch, capsys, f"benchmarks/{check.script}", *flags, "--json", file)
    assert result.code == 0, result.err
    content = json.loads(file.read_text())
    assert content["rows"] and all(map(math.isfinite, content["figures"].values()))


def test_a_wrong_kernel_is_found(monkeypatch, capsys):
    attend = bilinear.bilinear_attention
    monkeypatch.setattr(bilinear, "bilinear_attention", lambda *a: attend(*a) * 1.001)
    monkeypatch.setattr(sys, "argv", ["kernel.py", "--device", "cpu", "--toy"])
    with pytest.raises(SystemExit, match="float32"):
        kernel.main()


def test_it_goes_on_after_a_failure_and_lists_failures_last(tmp_path, monkeypatch):
    """Of `FAKES`, and of one for which no time is left."""
    for name, code in FAKES.items():
        (tmp_path / name).write_text(code)
    checks = [
        Check(name, str(tmp_path / name), flags="", toy="", seconds=2 if "endless" in name else 60)
        for name in ("bad.py", "endless.py", "good.py")
    ]
    late = Check("late", str(tmp_path / "good.py"), flags="", toy="")
    clock, real, done = time.monotonic, gpu_check.run_check, []

    def run_check(*arguments):
        done.append(real(*arguments))
        return done[-1]

    monkeypatch.setattr(gpu_check, "CHECKS", [*checks, late])
    monkeypatch.setattr(gpu_check, "AIMS", {"speed": (">=", 20.0)})
    monkeypatch.setattr(gpu_check, "run_check", run_check)
    monkeypatch.setattr(gpu_check, "_probe", lambda device: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    monkeypatch.setattr(gpu_check.time, "monotonic", lambda: clock() + 1000 * (len(done) == 3))
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as end:
        gpu_check.main()
    failed = [line.split(": ")[:2] for line in str(end.value).splitlines()[1:]]
    assert failed == [
        *(["bad.py", "exit code 1"], ["endless.py", "stopped after 2 s"], ["late", "not run"])
    ]
    table = (tmp_path / "out" / "gpu_check.md").read_text()
    assert table.startswith("m; v\n") and "| ours | 0.5 |" in table
    assert "| speed | 12.5 | >= 20 | ok, aim missed |" in table
    assert table.rstrip().splitlines()[-1].startswith("- late: not run")
    content = json.loads((tmp_path / "out" / "gpu_check.json").read_text())
    assert [one["name"] for one in content] == ["bad.py", "endless.py", "good.py", "late"]
    assert content[2]["result"]["figures"] == {"speed": 12.5}
    assert "gpu 1\n" in (tmp_path / "out" / "gpu_check.log").read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there")
def test_without_a_gpu_it_says_so_in_one_line(tmp_path):
    command = ["bash", ROOT / "scripts" / "gpu_check.sh", "--out", "here"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and not list(tmp_path.iterdir())
    assert done.stderr.count("\n") == 1 and "gpu_check.sh: error: --device cuda: " in done.stderr


@pytest.mark.slow
def test_the_whole_on_a_cpu(tmp_path):
    gpu_check_on("cpu", tmp_path)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_the_whole_on_a_gpu(tmp_path):
    gpu_check_on("cuda", tmp_path)


def gpu_check_on(device, folder):
    command = ["bash", ROOT / "scripts" / "gpu_check.sh", "--device", device, "--out", folder]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Failed" not in (folder / "gpu_check.md").read_text()
