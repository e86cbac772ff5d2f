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

from tests.helpers.commands import ROOT, RUN, TRAIN, make_data, refusal, run, run_together

FLAGS = f"{TRAIN} --device cpu --img-size 64 --augment none --pos --lr 1e-3"
COMPARABLE = FLAGS.replace("train.py", "benchmarks/comparable_training.py")
SLOW = pytest.mark.slow
EVALUATE = f"evaluate.py --exp-dir {RUN} --workers 0"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with data of 14 images a split, and an experiment."""
    folder = tmp_path_factory.mktemp("work")
    data = make_data(folder, images=14)
    ignore = np.zeros((14, 3), np.uint8)
    ignore[3, 1] = ignore[9, 0] = 1
    np.save(data / "ignore.npy", ignore)
    result = run(f"{FLAGS} --batch-size 4 --max-epochs 1", cwd=folder)
    assert result.code == 0, result.err
    return folder


@pytest.fixture
def copy(work, tmp_path):
    shutil.copytree(work, tmp_path, dirs_exist_ok=True)
    return tmp_path


def together(processes, command, cwd):
    """Run a line in processes that meet and must all succeed; gives what the first one printed, the
    only one to print."""
    file, *flags = command.split()
    results = run_together(processes, file, *flags, cwd=cwd)
    assert [result.code for result in results] == [0] * processes, results[0].err
    assert not any(result.out for result in results[1:])
    return results[0].out


def losses(out: str) -> list[float]:
    return [float(loss) for loss in re.findall(r"step \d+: ([\d.e+-]+)", out)]


def same_losses(copy, processes, flags, more=""):
    """Train alone and in processes, with `more` flags; gives the outputs."""
    alone = run(f"{COMPARABLE} {flags}", cwd=copy)
    assert alone.code == 0, alone.err
    many = together(processes, f"{COMPARABLE} {flags} {more}", copy)
    expected = losses(alone.out)
    assert len(expected) > 1 and expected[0] != expected[-1]
    np.testing.assert_allclose(losses(many), expected, rtol=1e-4)
    return alone.out, many


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
    flags = f"--batch-size {batch_size} --max-epochs 3"
    out, _ = same_losses(copy, processes, flags, f"--accum-steps {accum_steps}")
    assert len(losses(out)) == 6
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
    flags = f"--batch-size {6 + processes} --max-epochs 2"
    assert len(losses(same_losses(copy, processes, flags, "--compile")[0])) == 4


@pytest.mark.slow
@pytest.mark.parametrize("accum_steps", [1, 2])
def test_unreadable_images_change_nothing_else(copy, accum_steps):
    """Nine of 14, so that processes have shares, and whole batches, without an image."""
    for number in (0, 1, 2, 3, 5, 7, 9, 11, 13):
        (copy / "data" / "colors" / "images" / f"train{number}.png").write_text("no picture")
    (copy / "data" / "colors" / "images" / "test3.png").write_bytes(b"")
    flags = "--batch-size 4 --max-epochs 3 --max-bad-images"
    alone, many = same_losses(copy, 2, f"{flags} 10", f"--accum-steps {accum_steps}")
    assert "skipped 10 images" in alone and "skipped 10 images" in many
    assert many.count("skipped: ") == 10
    results = run_together(2, *f"{COMPARABLE} {flags} 3".split(), cwd=copy)
    assert [result.code for result in results] == [2] * 2
    said = [line for result in results for line in result.err.splitlines() if "error:" in line]
    assert len(said) == 1 and "--max-bad-images 3" in said[0]


@pytest.mark.slow
@pytest.mark.parametrize("images, batch_size", [(14, 4), (5, 4), (3, 4)])
def test_the_loss_is_the_same_with_fewer_images_than_processes(copy, images, batch_size):
    """The last batch, of one or two images, leaves some of the processes with none."""
    same_losses(copy, 4, f"--batch-size {batch_size} --max-epochs 2 --limit {images}")


@pytest.mark.parametrize("processes", [3, pytest.param(2, marks=pytest.mark.slow)])
def test_evaluation_is_the_same_for_any_number_of_processes(copy, processes):
    """14 images in batches of 4: the processes have unequal shares, one of them a short batch."""
    found = []
    for number in (1, processes):
        assert together(number, f"{EVALUATE} --batch-size 4", copy).startswith("mAP")
        with np.load(copy / RUN / "scores.npz") as stored:
            results = json.loads((copy / RUN / "results.json").read_text())
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
    together(3, f"{EVALUATE} --batch-size 1", copy)
    with np.load(copy / RUN / "scores.npz") as stored:
        assert stored["scores"].shape == (2, 3) and (stored["scores"] > 0).all()


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".npz"
    }


def test_heatmaps_are_the_same_for_any_number_of_processes(copy):
    """Also where the processes together have drawn more than are wanted."""
    flags = "--only-errors --limit 3 --batch-size 1 --threshold 0.4 --overlays --workers 0"
    command = f"infer.py --exp-dir {RUN} {flags}"
    folder = copy / RUN / "visualization"
    assert run(command, cwd=copy).code == 0
    alone = files(folder)
    shutil.rmtree(folder)
    together(2, command, copy)
    assert files(folder) == alone and len(alone) > 5
    assert not list((copy / RUN).glob(".*"))


def test_each_image_is_tagged_once_in_all_runs_together(copy):
    command = f"infer.py --exp-dir {RUN} --images data/colors/images --format csv --workers 0"
    command += " --threshold 0"
    whole = run(command, cwd=copy).out
    first = together(2, f"{command} --skip-done --limit 3", copy)
    assert first + together(2, f"{command} --skip-done", copy) == whole


ONE_PROCESS_FAILS = """
import os, runpy, sys
sys.argv = sys.argv[1:]
if os.environ["RANK"] == "1":
    sys.argv += ["--embed-type", "bert"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    "command, where",
    [
        (f"{FLAGS} --batch-size 1", "--batch-size 1"),
        pytest.param(f"{FLAGS} --batch-size 9 --accum-steps 5", "--accum-steps 5", marks=SLOW),
        (f"{FLAGS} --batch-size 4", "data/colors/bert.npy"),
        pytest.param(f"train.py --resume {RUN} --lr 9", "--lr 9.0 contradicts", marks=SLOW),
        ("evaluate.py --exp-dir gone", "--exp-dir gone"),
    ],
)
def test_an_error_is_one_line_of_the_first_process(work, command, where):
    """Also one of another process, while it builds."""
    before = sorted(work.rglob("*"))
    file, *flags = command.split()
    if where.endswith("bert.npy"):
        file, flags = "-c", [ONE_PROCESS_FAILS, ROOT / file, *flags]
    first, second = run_together(2, file, *flags, cwd=work)
    refusal(first, where)
    assert second.code == 2 and "error:" not in second.err
    assert sorted(work.rglob("*")) == before


def test_an_unreadable_image_of_one_process_is_reported_once(copy):
    (copy / "data/colors/images/train5.png").write_bytes(b"no picture")
    results = run_together(2, *f"{FLAGS} --batch-size 4".split(), cwd=copy)
    assert [result.code for result in results] == [2, 2]
    said = results[0].err + results[1].err
    assert said.count("error:") == 1 and "error: data/colors/images/train5.png: " in said


def torchrun(processes: int, command: str, options: str = "") -> list[str]:
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", *options.split()]
    return [*program, "--nproc-per-node", str(processes), *f"{ROOT}/{command}".split()]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_torchrun(copy, processes):
    def launched(command):
        options = {"capture_output": True, "text": True, "check": True}
        return subprocess.run(torchrun(processes, command), cwd=copy, **options).stdout

    command = f"{COMPARABLE} --batch-size 8 --max-epochs 2"
    alone = run(command, cwd=copy)
    np.testing.assert_allclose(losses(launched(command)), losses(alone.out), rtol=1e-4)
    experiment = "experiments/mlic_colors/exp3"
    for script in ("evaluate.py", "infer.py"):
        launched(f"{script} --exp-dir {experiment} --device cpu")
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
    command = torchrun(2, f"{FLAGS} --batch-size 8 --max-epochs 500 --save-every 1")
    process = subprocess.Popen(command, cwd=copy, stderr=subprocess.PIPE, text=True)
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
    flags = "--batch-size 8 --max-epochs 12 --save-every 1"
    command = torchrun(2, f"{FLAGS} {flags}", options="--max-restarts 1")
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
