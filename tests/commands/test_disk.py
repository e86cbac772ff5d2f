"""A full disk, folders that are locked, Ctrl-C and commands at once: the previous output stays."""

import itertools
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from PIL import Image

from lib.common.errors import UserError
from lib.experiment.tensorboard import TensorBoard
from tests.helpers.commands import ROOT, RUN, TRAIN, error_line, refusal, run, start
from tests.helpers.damage import files, refused
from tests.helpers.refusals import refused as refuses

SHORT = f"{TRAIN} --batch-size 4 --max-epochs 2"
EVALUATE = f"evaluate.py --workers 0 --exp-dir {RUN}"
INFER = f"infer.py --workers 0 --threshold 0 --exp-dir {RUN}"
RESUME = f"train.py --resume {RUN}"
CUSTOM = "scripts/custom.py --name new --train"
RUNNING = """
import ctypes, resource, runpy, sys
{limit}
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
SMALL_FILES = "resource.setrlimit(resource.RLIMIT_FSIZE, ({},) * 2)"
# without what lets root pass over the permissions of files
ORDINARY = """
libc = ctypes.CDLL(None)
header, sets = (ctypes.c_uint32 * 2)(0x20080522), (ctypes.c_uint32 * 6)()
assert libc.capget(header, sets) == 0
sets[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
assert libc.capset(header, sets) == 0
"""


def run_limited(limit: str, command: str):
    script, *flags = command.split()
    return run("-c", RUNNING.format(limit=limit), ROOT / script, *flags, cwd=Path.cwd())


@pytest.fixture
def place(home):
    """The working folder of `home` with 60 photographs, labelled in a.csv and in b.csv; what the
    test has mounted or locked is undone."""
    Path("photos").mkdir()
    for number in range(60):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(f"photos/{number}.png")
    for name in "ab":
        rows = "".join(f"photos/{number}.png,{name}{number % 7}\n" for number in range(60))
        Path(f"{name}.csv").write_text("path,labels\n" + rows)
    home(INFER)
    yield home
    for folder, names, _ in os.walk("."):
        for name in names:
            os.chmod(Path(folder, name), 0o755)
            if os.path.ismount(Path(folder, name)):
                subprocess.run(["umount", Path(folder, name)], check=True)


def fill(name: str, kilobytes: int) -> None:
    """Give a folder so much room, whatever it holds: links to that take none."""
    folder, aside = Path(name), Path(f"{name}.aside")
    folder.mkdir(exist_ok=True)
    folder.rename(aside)
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", name]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    for file in aside.rglob("*"):
        link = folder / file.relative_to(aside)
        link.parent.mkdir(parents=True, exist_ok=True)
        if file.is_file():  # a path of more than 128 characters would take room
            link.symlink_to(os.path.relpath(file, link.parent))


RUNS = "experiments/mlic_colors"
# folder, its kilobytes, command, and what the line begins with
FULL = [
    ("experiments", 8, SHORT, "experiments/mlic_colors/"),
    ("experiments", 16, SHORT, "experiments/mlic_colors/exp2/"),
    ("experiments", 400, SHORT, "experiments/mlic_colors/exp2/checkpoints/best_ema_model.pth"),
    ("experiments", 14_000, SHORT, "experiments/mlic_colors/exp2/checkpoints/last.pth"),
    ("cache", 24, f"{SHORT} --cache cache", "--cache cache"),
    ("data", 60, "scripts/digits.py --train 99 --test 9", "data/digits/images/"),
    ("data", 4, f"{CUSTOM} a.csv", "data/new/"),
    ("data/colors", 8, "scripts/inspect_data.py --data colors", "data/colors/"),
    *((RUNS, kilobytes, EVALUATE, f"{RUN}/") for kilobytes in (4, 8)),
    *((RUNS, kilobytes, INFER, f"{RUN}/visualization/") for kilobytes in (8, 40)),
]


@pytest.mark.slow
@pytest.mark.parametrize("folder, kilobytes, command, where", FULL)
def test_a_full_disk(place, folder, kilobytes, command, where):
    fill(folder, kilobytes)
    before = files()
    line = error_line(run(command, cwd=Path.cwd())).partition(": error: ")[2]
    assert line.startswith(where) and "/." not in line
    after = files()
    lost = [name for name in before if after.get(name) != before[name]]
    assert not [name for name in lost if not name.endswith("checkpoint.txt")]
    assert not [name for name in after if "/." in name]


@pytest.mark.slow
def test_the_last_good_checkpoint_outlives_a_full_disk(place):
    """The disk takes the best model and the first state; later ones need more room."""
    fill("experiments", 70_000)
    second = "experiments/mlic_colors/exp2"
    line = error_line(run(f"{SHORT} --max-epochs 9 --lr 1e-3", cwd=Path.cwd()))
    assert ".pth: " in line and "No space left on device" in line
    assert "No space left" in Path(second, "train.log").read_text()
    place(f"evaluate.py --exp-dir {second} --workers 0")
    subprocess.run(["mount", "-o", "remount,size=300m", "experiments"], check=True)
    assert "resumed from step" in place(f"train.py --resume {second} --workers 0").out


@pytest.mark.parametrize("kilobytes, name", [(4, "best_ema_model.pth"), (12_000, "last.pth")])
def test_files_that_may_not_grow(home, kilobytes, name):
    where = f"experiments/mlic_colors/exp2/checkpoints/{name}"
    refusal(run_limited(SMALL_FILES.format(kilobytes * 1024), SHORT), where)
    assert not [name for name in files() if "/." in name]


LOCKED = [
    (RUN, EVALUATE, RUN),
    (RUNS, SHORT, RUNS),
    (RUN, INFER, f"{RUN}/visualization"),
    (f"{RUN}/checkpoints", f"{RESUME} --max-epochs 3", f"{RUN}/checkpoints/last.pth"),
    ("locked", f"{SHORT} --cache locked/cache", "locked/cache"),
    ("data", f"{CUSTOM} a.csv", "data/new"),
    ("data", "scripts/digits.py --train 9 --test 9", "data/digits"),
    ("data/colors", "scripts/inspect_data.py --data colors", "data/colors/labels.png"),
    ("data/colors/train.txt", SHORT, "data/colors/train.txt"),
    ("data/colors/images/train1.png", SHORT, "data/colors/images/train1.png"),
]
LOCKED[1:] = [pytest.param(*row, marks=pytest.mark.slow) for row in LOCKED[1:]]


@pytest.mark.parametrize("name, command, where", LOCKED)
def test_what_is_locked_is_named(place, name, command, where):
    """Folders may not be written to, files may not be read."""
    Path("locked").mkdir()
    os.chmod(name, 0o500 if Path(name).is_dir() else 0)
    line = refused(lambda line: run_limited(ORDINARY, line), where, command, begun=True)
    assert "Permission denied" in line
    os.chmod(name, 0o755)


def whose(folder: Path) -> str:
    """The table that all files of a data folder were made from, and nothing else is beside it."""
    assert sorted(path.name for path in folder.parent.iterdir()) == ["colors", "new"]
    lines = "\n".join((folder / f"{name}.txt").read_text() for name in ("train", "test", "label"))
    (name,) = {line.split("\t")[-1][0] for line in lines.split("\n") if line}
    return name


@pytest.mark.slow
def test_commands_at_once_do_not_mix(place):
    for _ in range(3):
        started = [start(f"{CUSTOM} {table}.csv", cwd=Path.cwd()) for table in "abab"]
        assert [process.wait(120) for process in started] == [0] * 4
        whose(Path("data/new"))


@pytest.mark.slow
def test_ctrl_c_leaves_the_previous_output_or_the_new(place):
    """At moments all over the run, from its first second to its last renames."""
    assert run(f"{CUSTOM} a.csv", cwd=Path.cwd()).code == 0
    begin = time.monotonic()
    assert run(f"{CUSTOM} b.csv", cwd=Path.cwd()).code == 0
    whole = time.monotonic() - begin
    codes = set()
    for share, table in zip((0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0), itertools.cycle("ab")):
        previous = whose(Path("data/new"))
        process = start(f"{CUSTOM} {table}.csv", cwd=Path.cwd())
        time.sleep(whole * share * random.uniform(0.95, 1.05))
        process.send_signal(signal.SIGINT)
        code = process.wait(60)
        codes.add(code)
        assert whose(Path("data/new")) in ((table,) if code == 0 else (previous, table))
    # the signal's own end, where it came before the command could take it
    assert codes <= {0, 130, -signal.SIGINT} and codes != {0}, codes


def test_the_thread_of_tensorboard_reports_a_full_disk(tmp_path, monkeypatch, capsys):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    system = "tensorboard.compat.tensorflow_stub.io.gfile.LocalFileSystem"
    with refuses(tmp_path / "events.out.tfevents", "No space left on device"):
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
    with refuses("last.pth"), TensorBoard(tmp_path, 1) as board:
        board.folder = tmp_path / "gone"
        board.writer.close = lambda: open(tmp_path / "gone" / "events")
        raise UserError("last.pth: cannot be written")
