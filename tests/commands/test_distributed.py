"""Runs of several processes from the command line, over gloo: the same numbers, however many."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.commands import ROOT, TINY, make_data, run, run_together

FLAGS = (*TINY, *"--data colors --device cpu --img-size 64 --augment none --pos --lr 1e-3".split())
COMPARABLE = ROOT / "benchmarks" / "comparable_training.py"
EXPERIMENT = "experiments/mlic_colors/exp1"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with data of 14 images a split, and an experiment."""
    folder = tmp_path_factory.mktemp("work")
    data = make_data(folder, images=14)
    ignore = np.zeros((14, 3), np.uint8)
    ignore[3, 1] = ignore[9, 0] = 1
    np.save(data / "ignore.npy", ignore)
    command = ("train.py", *FLAGS, "--batch-size", "4", "--max-epochs", "1")
    result = run(*command, cwd=folder)
    assert result.code == 0, result.err
    return folder


@pytest.fixture
def copy(work, tmp_path):
    shutil.copytree(work, tmp_path, dirs_exist_ok=True)
    return tmp_path


def losses(out: str) -> list[float]:
    return [float(loss) for loss in re.findall(r"step \d+: ([\d.e+-]+)", out)]


@pytest.mark.parametrize(
    "processes, batch_size, accum_steps",
    [
        (2, 8, 1),
        (2, 8, 2),
        (3, 8, 1),
        *(
            pytest.param(*sizes, marks=pytest.mark.slow)
            for sizes in [(2, 7, 3), (3, 7, 2), (4, 8, 1), (4, 8, 2), (5, 12, 2)]
        ),
    ],
)
def test_the_loss_is_the_same_for_any_number_of_processes(copy, processes, batch_size, accum_steps):
    """Also where they do not divide the batch; the labels that are not known spread unevenly."""
    lines = (copy / "data" / "colors" / "train.txt").read_text()
    (copy / "data" / "colors" / "train.txt").write_text(lines.replace("\tred,", "\t?red,"))
    flags = (*FLAGS, *f"--batch-size {batch_size} --max-epochs 3".split())
    alone = run(COMPARABLE, *flags, cwd=copy)
    assert alone.code == 0, alone.err
    many = run_together(processes, COMPARABLE, *flags, "--accum-steps", accum_steps, cwd=copy)
    assert [result.code for result in many] == [0] * processes, many[0].err
    expected, found = losses(alone.out), losses(many[0].out)
    assert len(expected) == 6 and expected[0] != expected[-1]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert not any(result.out for result in many[1:])
    folders = [copy / "experiments" / "mlic_colors" / f"exp{number}" for number in (2, 3)]
    rows = [json.loads((one / "history.jsonl").read_text().splitlines()[-1]) for one in folders]
    for name in ("train_loss", "mAP", "mAP_ema"):
        assert rows[0][name] == pytest.approx(rows[1][name], rel=1e-4)
    states = [torch.load(one / "checkpoints" / "best_ema_model.pth")["model"] for one in folders]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_compiled_network_has_the_same_loss(copy, processes):
    """With two processes also in a shorter batch at the end of an epoch."""
    flags = (*FLAGS, *f"--batch-size {6 + processes} --max-epochs 2".split())
    alone = run(COMPARABLE, *flags, cwd=copy)
    many = run_together(processes, COMPARABLE, *flags, "--compile", cwd=copy)
    assert [result.code for result in (alone, *many)] == [0] * (1 + processes), many[0].err
    assert len(losses(alone.out)) == 4
    np.testing.assert_allclose(losses(many[0].out), losses(alone.out), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("accum_steps", [1, 2])
def test_unreadable_images_change_nothing_else(copy, accum_steps):
    """Nine of 14, so that processes have shares, and whole batches, without an image."""
    for number in (0, 1, 2, 3, 5, 7, 9, 11, 13):
        (copy / "data" / "colors" / "images" / f"train{number}.png").write_text("no picture")
    (copy / "data" / "colors" / "images" / "test3.png").write_bytes(b"")
    flags = (*FLAGS, *"--batch-size 4 --max-epochs 3 --max-bad-images 10".split())
    alone = run(COMPARABLE, *flags, cwd=copy)
    assert alone.code == 0 and "skipped 10 images" in alone.out, alone.err
    many = run_together(2, COMPARABLE, *flags, "--accum-steps", accum_steps, cwd=copy)
    assert [result.code for result in many] == [0] * 2, many[0].err
    np.testing.assert_allclose(losses(many[0].out), losses(alone.out), rtol=1e-4)
    assert many[0].out.count("skipped: ") == 10 and "skipped 10 images" in many[0].out
    strict = (*flags[:-1], "3")
    many = run_together(2, COMPARABLE, *strict, cwd=copy)
    assert [result.code for result in many] == [2] * 2
    said = [line for result in many for line in result.err.splitlines() if "error:" in line]
    assert len(said) == 1 and "one more than --max-bad-images 3" in said[0]


@pytest.mark.slow
@pytest.mark.parametrize("images, batch_size", [(14, 4), (5, 4), (3, 4)])
def test_the_loss_is_the_same_with_fewer_images_than_processes(copy, images, batch_size):
    """The last batch, of one or two images, leaves some of the processes with none."""
    flags = (*FLAGS, "--batch-size", batch_size, "--max-epochs", "2", "--limit", images)
    alone = run(COMPARABLE, *flags, cwd=copy)
    many = run_together(4, COMPARABLE, *flags, cwd=copy)
    assert [result.code for result in many] == [0] * 4, many[0].err
    np.testing.assert_allclose(losses(many[0].out), losses(alone.out), rtol=1e-4)


@pytest.mark.parametrize("processes", [3, pytest.param(2, marks=pytest.mark.slow)])
def test_evaluation_is_the_same_for_any_number_of_processes(copy, processes):
    """14 images in batches of 4: the processes have unequal shares, one of them a short batch."""
    command = ("evaluate.py", "--exp-dir", EXPERIMENT, "--batch-size", "4", "--workers", "0")
    found = []
    for results in ([run(*command, cwd=copy)], run_together(processes, *command, cwd=copy)):
        assert [result.code for result in results] == [0] * len(results), results[0].err
        assert results[0].out.startswith("mAP") and not any(one.out for one in results[1:])
        with np.load(copy / EXPERIMENT / "scores.npz") as stored:
            results = json.loads((copy / EXPERIMENT / "results.json").read_text())
            found.append((stored["scores"], stored["ignore"], stored["paths"].tolist(), results))
    np.testing.assert_allclose(found[0][0], found[1][0], atol=1e-6)
    np.testing.assert_array_equal(found[0][1], found[1][1])
    assert found[0][2] == found[1][2] and found[1][1].sum() == 2
    assert found[0][3]["mAP"] == pytest.approx(found[1][3]["mAP"], abs=1e-6)


def test_more_processes_than_images(copy):
    for name in ("test.txt", "train.txt"):
        path = copy / "data" / "colors" / name
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    (copy / "data" / "colors" / "ignore.npy").unlink()
    command = ("evaluate.py", "--exp-dir", EXPERIMENT, "--batch-size", "1", "--workers", "0")
    results = run_together(3, *command, cwd=copy)
    assert [result.code for result in results] == [0] * 3, results[0].err
    with np.load(copy / EXPERIMENT / "scores.npz") as stored:
        assert stored["scores"].shape == (2, 3) and (stored["scores"] > 0).all()


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".npz"
    }


def test_heatmaps_are_the_same_for_any_number_of_processes(copy):
    """Also where the processes together have drawn more than are wanted."""
    flags = "--only-errors --limit 3 --batch-size 1 --threshold 0.4 --overlays --workers 0".split()
    command = ("infer.py", "--exp-dir", EXPERIMENT, *flags)
    folder = copy / EXPERIMENT / "visualization"
    assert run(*command, cwd=copy).code == 0
    alone = files(folder)
    shutil.rmtree(folder)
    results = run_together(2, *command, cwd=copy)
    assert [result.code for result in results] == [0] * 2, results[0].err
    assert files(folder) == alone and len(alone) > 5
    assert not [path for path in (copy / EXPERIMENT).iterdir() if path.name.startswith(".")]


def test_each_image_is_tagged_once_in_all_runs_together(copy):
    command = ("infer.py", "--exp-dir", EXPERIMENT, "--images", "data/colors/images")
    command += ("--format", "csv", "--workers", "0", "--threshold", "0")
    whole = run(*command, cwd=copy).out
    first = run_together(2, *command, "--skip-done", "--limit", "3", cwd=copy)
    second = run_together(2, *command, "--skip-done", cwd=copy)
    assert [result.code for result in first + second] == [0] * 4, second[0].err
    assert first[0].out + second[0].out == whole and first[1].out + second[1].out == ""


@pytest.mark.parametrize(
    "command, says",
    [
        (
            ("train.py", *FLAGS, "--batch-size", "1"),
            "--batch-size 1: less than one image for each of the 2 processes",
        ),
        pytest.param(
            ("train.py", *FLAGS, "--batch-size", "9", "--accum-steps", "5"),
            "--accum-steps 5: more micro-batches than the 4 images that a process has",
            marks=pytest.mark.slow,
        ),
        (("train.py", *FLAGS, "--data", "gone"), "data/gone: no such data folder"),
        pytest.param(
            ("train.py", "--resume", EXPERIMENT, "--lr", "9"),
            "--lr 9.0 contradicts",
            marks=pytest.mark.slow,
        ),
        (("evaluate.py", "--exp-dir", "gone"), "--exp-dir gone: no such folder"),
    ],
)
def test_bad_input_is_one_line_of_the_first_process(work, command, says):
    before = sorted(path for path in work.rglob("*"))
    results = run_together(2, *command, cwd=work)
    assert [result.code for result in results] == [2, 2]
    assert says in results[0].err and results[0].err.count("error:") == 1
    assert "error:" not in results[1].err
    assert sorted(path for path in work.rglob("*")) == before


def test_an_unreadable_image_of_one_process_is_heard_once(copy):
    (copy / "data/colors/images/train5.png").write_bytes(b"no picture")
    results = run_together(2, "train.py", *FLAGS, "--batch-size", "4", cwd=copy)
    assert [result.code for result in results] == [2, 2]
    text = results[0].err + results[1].err
    assert text.count("error:") == 1 and "train5.png: not a readable image" in text


def test_what_one_process_meets_while_it_builds_is_told_to_all(copy):
    code = (
        "import os, runpy, sys\n"
        f"sys.argv = ['train.py', *{FLAGS!r}, '--batch-size', '4']\n"
        "if os.environ['RANK'] == '1':\n"
        "    sys.argv += ['--embed-type', 'bert']\n"
        f"runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')\n"
    )
    results = run_together(2, "-c", code, cwd=copy, timeout=300)
    assert [result.code for result in results] == [2, 2]
    assert "bert.npy: no such file" in results[0].err and "error:" not in results[1].err


def torchrun(processes: int, *command: str, options: tuple[str, ...] = ()) -> list[str]:
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", *options]
    return [*program, "--nproc-per-node", str(processes), *map(str, command)]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_torchrun(copy, processes):
    flags = (*FLAGS, *"--batch-size 8 --max-epochs 2".split())
    alone = run(COMPARABLE, *flags, cwd=copy)
    done = subprocess.run(
        torchrun(processes, COMPARABLE, *flags),
        cwd=copy,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(losses(done.stdout), losses(alone.out), rtol=1e-4)
    experiment = "experiments/mlic_colors/exp3"
    for command in ("evaluate.py", "infer.py"):
        done = subprocess.run(
            torchrun(processes, ROOT / command, "--exp-dir", experiment, "--device", "cpu"),
            cwd=copy,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    results = json.loads((copy / experiment / "results.json").read_text())
    rows = (copy / experiment / "history.jsonl").read_text().splitlines()
    assert results["mAP"] == pytest.approx(json.loads(rows[-1])["best_mAP_ema"], abs=1e-6)


def children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["launcher asked", "launcher killed", "worker killed"])
def test_what_ends_one_ends_all(copy, what):
    """No process is left over, nothing is heard twice, and the state is there to go on from."""
    flags = (*FLAGS, *"--batch-size 8 --max-epochs 500 --save-every 1".split())
    process = subprocess.Popen(
        torchrun(2, ROOT / "train.py", *flags), cwd=copy, stderr=subprocess.PIPE, text=True
    )
    experiment = copy / "experiments" / "mlic_colors" / "exp2"
    wait_for(experiment / "history.jsonl")
    workers = children(process.pid)
    assert len(workers) == 2
    start = time.monotonic()
    if what == "launcher asked":
        process.terminate()
    else:
        os.kill(process.pid if what == "launcher killed" else workers[1], signal.SIGKILL)
    _, err = process.communicate(timeout=300)
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() - start < 300
        time.sleep(0.1)
    assert process.returncode != 0
    assert err.count("train.py: error:") == (1 if what == "worker killed" else 0)
    assert torch.load(experiment / "checkpoints" / "last.pth")["step"] > 0


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 300
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_an_elastic_restart_goes_on(copy, victim):
    """A process killed once: the launcher starts all anew, and the same run comes to its end."""
    flags = (*FLAGS, *"--batch-size 8 --max-epochs 12 --save-every 1".split())
    command = torchrun(2, ROOT / "train.py", *flags, options=("--max-restarts", "1"))
    process = subprocess.Popen(
        command, cwd=copy, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    experiment = copy / "experiments" / "mlic_colors" / "exp2"
    wait_for(experiment / "history.jsonl")
    os.kill(children(process.pid)[victim], signal.SIGKILL)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0 and "resumed from step" in out
    rows = [json.loads(line) for line in (experiment / "history.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, 13))
    assert not (experiment.parent / "exp3").exists()
