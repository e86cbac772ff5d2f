"""A disk that fills up, by any of the files that the commands write: nothing is half-written.

A small tmpfs is the disk, where the tests may mount one.
"""

import json
import os
import re
import subprocess

import pytest

from lib.common.errors import UserError
from lib.experiment.tensorboard import TensorBoard
from tests.helpers.commands import TINY, error_line, make_data, run

TRAIN = ("train.py", *TINY, *"--data colors --batch-size 4 --max-epochs 2".split())
EXPERIMENT = "experiments/mlic_colors/exp1"


def test_the_thread_of_tensorboard_tells_of_a_full_disk(tmp_path, monkeypatch, capsys):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    system = "tensorboard.compat.tensorflow_stub.io.gfile.LocalFileSystem"
    with pytest.raises(UserError, match="events.out.tfevents: cannot be written: No space"):
        with TensorBoard(tmp_path, 1) as board:
            board.add_scalar("x", 1.0, 1)
            board.flush()
            monkeypatch.setattr(f"{system}.append", full)
            for step in range(99):
                board.add_scalar("x", 1.0, step)
                board.flush()
    assert "Traceback" not in capsys.readouterr().err


def test_of_several_files_the_first_that_failed_is_named(tmp_path):
    """Leaving the block closes the board, which fails too."""
    with pytest.raises(UserError, match="last.pth"), TensorBoard(tmp_path, 1) as board:
        board.folder = tmp_path / "gone"
        board.writer.close = lambda: open(tmp_path / "gone" / "events")
        raise UserError("last.pth: cannot be written")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    make_data(folder)
    table = "".join(f"data/colors/images/train{number}.png,a;b\n" for number in range(6))
    (folder / "photos.csv").write_text("path,labels\n" + table)
    result = run(*TRAIN, cwd=folder)
    assert result.code == 0, result.err
    return folder


@pytest.fixture
def disk(work, tmp_path):
    """A full-disk-to-be: `disk(kilobytes)` has an experiment and, elsewhere, its data."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(kilobytes: int):
        options = ["-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
        done = subprocess.run(["mount", *options], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
        (place / "data").mkdir()
        os.symlink(work / "data" / "colors", place / "data" / "colors")
        os.symlink(work / "photos.csv", place / "photos.csv")
        return place

    yield mount
    subprocess.run(["umount", str(place)], capture_output=True)


FULL = [
    (8, "checkpoint.txt|config.yaml|train.log", TRAIN),
    (16, "events.out.tfevents|best_ema_model.pth", TRAIN),
    (400, "best_ema_model.pth", TRAIN),
    (14_000, "last.pth", TRAIN),
    (24, "cache/.*.npy", (*TRAIN, "--cache", "cache")),
    (60, "data/digits/images/", ("scripts/digits.py", "--train", "99", "--test", "9")),
    (4, "data/new/", ("scripts/custom.py", "--name", "new", "--train", "photos.csv")),
    (8, "labels.png|cooccurrence.png", ("scripts/inspect_data.py", "--data", "colors")),
]


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes, names, command", FULL)
def test_a_full_disk_names_what_it_has_no_room_for(disk, kilobytes, names, command):
    place = disk(kilobytes)
    if "inspect_data" in command[0]:
        command = (*command, "--save-dir", "pictures")
    line = error_line(run(*command, cwd=place))
    assert re.search(f"({names}).*: cannot be written: No space", line), line
    assert not [path for path in place.rglob(".*")]


@pytest.mark.slow
def test_the_last_good_checkpoint_outlives_a_full_disk(disk):
    """The disk takes the best model and the first state; later ones need more room."""
    place = disk(70_000)
    flags = ("--max-epochs", "9", "--lr", "1e-3")
    line = error_line(run(*TRAIN, *flags, cwd=place))
    assert ".pth: cannot be written: No space left on device" in line
    assert "No space left" in (place / EXPERIMENT / "train.log").read_text()
    result = run("evaluate.py", "--exp-dir", EXPERIMENT, "--workers", "0", cwd=place)
    assert result.code == 0, result.err
    assert json.loads((place / EXPERIMENT / "results.json").read_text())["mAP"] > 0
    subprocess.run(["mount", "-o", "remount,size=300m", str(place)], check=True)
    result = run("train.py", "--resume", EXPERIMENT, "--workers", "0", cwd=place)
    assert result.code == 0 and "resumed from step" in result.out, result.err


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [12, 100])
@pytest.mark.parametrize(
    "command, former",
    [
        (("evaluate.py", "--workers", "0"), "results.json"),
        (("infer.py", "--workers", "0", "--threshold", "0"), "visualization/index.html"),
    ],
)
def test_former_results_outlive_a_full_disk(disk, work, kilobytes, command, former):
    place = disk(kilobytes)
    (place / "exp" / "checkpoints").mkdir(parents=True)
    (place / "exp" / former).parent.mkdir(exist_ok=True)
    (place / "exp" / former).write_text("former")
    for file in ("config.yaml", "checkpoints/best_ema_model.pth"):
        os.symlink(work / EXPERIMENT / file, place / "exp" / file)
    (place / "filler").write_bytes(bytes((kilobytes - 8) * 1024))
    line = error_line(run(*command, "--exp-dir", "exp", cwd=place))
    assert "exp/" in line and ": cannot be written: No space" in line and "/." not in line
    assert (place / "exp" / former).read_text() == "former"
