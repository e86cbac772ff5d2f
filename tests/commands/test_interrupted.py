"""Ctrl-C, two commands at once and folders that cannot be written: the former output stays."""

import itertools
import random
import signal
import stat
import time

import pytest
from PIL import Image

from tests.helpers.commands import ROOT, TINY, error_line, make_data, run, start

TRAIN = ("train.py", *TINY, *"--data colors --batch-size 4 --max-epochs 1".split())
TRAIN += ("--lr-scheduler", "StepLR")  # which can go on for more epochs
EXPERIMENT = "experiments/mlic_colors/exp1"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    make_data(folder)
    (folder / "photos").mkdir()
    for number in range(60):
        Image.new("RGB", (8, 8)).save(folder / "photos" / f"{number}.png")
    for name in "ab":
        lines = "".join(f"photos/{number}.png,{name}{number % 7}\n" for number in range(60))
        (folder / f"{name}.csv").write_text("path,labels\n" + lines)
    result = run(*TRAIN, cwd=folder)
    assert result.code == 0, result.err
    return folder


def custom(table, *flags):
    return ("scripts/custom.py", "--name", "new", "--train", f"{table}.csv", *flags)


def whose(folder):
    """The table that all files of a data folder were made from."""
    names = {
        line.split("\t")[-1][0]
        for file in ("train.txt", "test.txt", "label.txt")
        for line in (folder / file).read_text().splitlines()
    }
    assert len(names) == 1, names
    return names.pop()


@pytest.mark.slow
def test_two_preprocess_runs_at_once_do_not_mix(work):
    target = work / "data" / "new"
    for _ in range(3):
        started = [start(*custom(table), cwd=work) for table in "abab"]
        assert [process.wait(120) for process in started] == [0] * 4
        whose(target)
        assert sorted(path.name for path in target.parent.iterdir()) == ["colors", "new"]


@pytest.mark.slow
def test_ctrl_c_leaves_the_former_output_or_the_new(work):
    """At moments all over the run, from its first second to its last renames."""
    target = work / "data" / "new"
    assert run(*custom("a"), cwd=work).code == 0
    begin = time.monotonic()
    assert run(*custom("b"), cwd=work).code == 0
    whole = time.monotonic() - begin
    codes = set()
    for share, table in zip((0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0), itertools.cycle("ab")):
        former = whose(target)
        process = start(*custom(table), cwd=work)
        time.sleep(whole * share * random.uniform(0.95, 1.05))
        process.send_signal(signal.SIGINT)
        code = process.wait(60)
        codes.add(code)
        assert whose(target) in ((table,) if code == 0 else (former, table))
        assert sorted(path.name for path in target.parent.iterdir()) == ["colors", "new"]
    # the signal's own end, where it came before the command could take it
    assert codes <= {0, 130, -signal.SIGINT} and codes != {0}, codes


# a command without what lets root pass over the permissions of files
AS_ORDINARY_USER = """
import ctypes, runpy, sys
libc = ctypes.CDLL(None)
header, sets = (ctypes.c_uint32 * 2)(0x20080522), (ctypes.c_uint32 * 6)()
assert libc.capget(header, sets) == 0
sets[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
assert libc.capset(header, sets) == 0
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_ordinary(*command, cwd):
    return run("-c", AS_ORDINARY_USER, ROOT / command[0], *command[1:], cwd=cwd)


@pytest.fixture
def locked(work):
    """`locked(folder)` takes the right to write there, until the test has ended."""
    taken = []

    def lock(name, mode=stat.S_IRUSR | stat.S_IXUSR):
        folder = work / name
        folder.mkdir(parents=True, exist_ok=True)
        taken.append((folder, folder.stat().st_mode))
        folder.chmod(mode)

    yield lock
    for folder, mode in taken:
        folder.chmod(mode)


LOCKED = [
    ("experiments/mlic_colors", TRAIN, "experiments/mlic_colors: cannot be written"),
    (f"{EXPERIMENT}", ("evaluate.py", "--exp-dir", EXPERIMENT, "--workers", "0"), EXPERIMENT),
    (
        f"{EXPERIMENT}",
        ("infer.py", "--exp-dir", EXPERIMENT, "--workers", "0"),
        f"{EXPERIMENT}/visualization",
    ),
    (
        f"{EXPERIMENT}/checkpoints",
        ("train.py", "--resume", EXPERIMENT, "--max-epochs", "2"),
        f"{EXPERIMENT}/checkpoints",
    ),
    ("locked", (*TRAIN, "--cache", "locked/cache"), "locked/cache: cannot be written"),
    ("data", custom("a"), "data/new"),
    ("data", ("scripts/digits.py", "--train", "9", "--test", "9"), "data/digits"),
    ("data/colors", ("scripts/inspect_data.py", "--data", "colors"), "data/colors/labels.png"),
]


@pytest.mark.parametrize(
    "folder, command, says",
    [
        pytest.param(*case, marks=[] if number == 1 else pytest.mark.slow)
        for number, case in enumerate(LOCKED)
    ],
)
def test_a_folder_that_cannot_be_written_is_named(work, locked, folder, command, says):
    locked(folder)
    before = {path for path in work.rglob("*")}
    line = error_line(run_ordinary(*command, cwd=work))
    assert says in line and "Permission denied" in line, line
    more = {path.name for path in work.rglob("*")} - {path.name for path in before}
    # a run that goes on has its lock and its events
    assert not [name for name in more if not name.startswith(("events.out", "train.lock"))], more


@pytest.mark.slow
def test_files_that_cannot_be_read_are_named(work, locked):
    for name in ("data/colors/train.txt", "data/colors/images/train1.png"):
        (work / name).chmod(0)
        line = error_line(run_ordinary(*TRAIN, cwd=work))
        (work / name).chmod(0o644)
        assert name in line and "Permission denied" in line
