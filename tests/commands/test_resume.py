"""A run that was ended at any moment and resumed is the run that nothing ended.

`test_damage.py` has the flags, files and states that a run refuses.
"""

import hashlib
import json
import os
import pkgutil
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lib.common.signals import StopRequest
from lib.runtime.world import World
from lib.training import fit
from tests.helpers.commands import ROOT, TRAIN, Here, inside, make_data, run, start
from tests.helpers.damage import cut, flip_a_byte, gone, refused, swap, text

# 14 images in batches of 3, the last one short: 5 steps an epoch
FLAGS = f"{TRAIN} --batch-size 3 --limit 14 --max-epochs 3 --lr 1e-3 --ema-decay 0.5 --img-size 64"
FLAGS += " --pos"
STEPS = 15
RUNS = Path("experiments/mlic_colors")
FIRST, SECOND = RUNS / "exp1", RUNS / "exp2"
RESUME = f"train.py --resume {FIRST}"


class Ended(BaseException):
    """Stands for the end of the process at a point in the code."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that nothing ended."""
    folder = tmp_path_factory.mktemp("whole")
    make_data(folder, images=16)
    done = run(FLAGS, cwd=folder, new_interpreter=True)
    assert done.code == 0, done.err
    return folder


@pytest.fixture(scope="module")
def expected(whole):
    """What any run must come to."""
    return contents(whole / FIRST)


@pytest.fixture
def here(whole, commands, tmp_path, monkeypatch, no_curves):
    """Runs commands in a folder with the same data.

    Curves are drawn by `whole` alone: quicker, and it shows that drawing moves no number.
    """
    shutil.copytree(whole / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return commands


def end_after(here: Here, step: int) -> None:
    """End a run just after a step, and after what was saved then."""
    leave_if_asked = fit.leave_if_asked

    def ending(run, *others):
        leave_if_asked(run, *others)
        if run.state.step == step:
            raise Ended

    with here.monkeypatch.context() as patched, pytest.raises(Ended):
        patched.setattr(fit, "leave_if_asked", ending)
        here(f"{FLAGS} --save-every 3")


def plain(value):
    """Tensors as hashes of their bytes, so that states compare with `==`."""
    if isinstance(value, torch.Tensor):
        content = value.contiguous().flatten().view(torch.uint8).numpy() if value.numel() else b""
        return str(value.dtype), value.shape, hashlib.sha256(content).hexdigest()
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def contents(path: Path) -> dict:
    """All that two runs must share: weights, state, history and log, but for times."""
    rows = [json.loads(line) for line in (path / "history.jsonl").read_text().splitlines()]
    timeless = [
        {name: row[name] for name in row if name not in ("seconds", "images_per_second")}
        for row in rows
    ]
    log = re.sub(r", [\d.]+ images/s, \d+ s", "", (path / "train.log").read_text())
    log = log.replace(str(ROOT), "").split("\n", 1)[1]  # but for the command
    log = re.sub(r'exp\d+|"(save_every|workers)": \w+', "", log)
    states = {}
    for name in ("last.pth", "best_ema_model.pth"):
        states[name] = plain(torch.load(path / "checkpoints" / name, weights_only=True))
        for free in ("save_every", "workers", "device"):
            states[name]["config"].pop(free)
    states["last.pth"].pop("sizes")
    return {"history": timeless, "log": log, **states}


def states(folder: Path) -> list[Path]:
    return [folder / "checkpoints" / f"{name}.pth" for name in ("last", "last.prev")]


def test_the_run_is_the_same_twice(whole, here, expected):
    here(FLAGS)
    assert contents(FIRST) == expected
    assert (whole / FIRST / "curves.png").is_file()


@pytest.mark.parametrize("step, workers", [(1, "0"), (5, "2"), (7, "2"), (10, "0"), (STEPS, "0")])
def test_resumed_after_any_step(here, expected, step, workers):
    """Ended just after a step, with a state of three steps' distance at most, or none."""
    end_after(here, step)
    out = here(f"{RESUME} --workers {workers}").out
    saved = max(step - step % 3, (step - 1) // 5 * 5)  # every third step, and after validation
    assert re.findall(r"resumed from step (\d+) of", out) == ([str(saved)] if saved else [])
    assert contents(FIRST) == expected


@pytest.mark.parametrize(
    "function",
    ["lib.training.fit.validate", "lib.experiment.folder.Experiment.add_history"]
    + ["lib.training.fit.save_last", "lib.experiment.checkpoint.sync_folder"],
)  # fmt: skip
@pytest.mark.parametrize("call", [1, 2])
def test_resumed_between_training_and_saving(here, expected, function, call):
    calls = []

    def ending(*arguments, **options):
        calls.append(function)
        if len(calls) == call:
            raise Ended
        return original(*arguments, **options)

    with here.monkeypatch.context() as patched, pytest.raises(Ended):
        original = pkgutil.resolve_name(function)
        patched.setattr(function, ending)
        here(FLAGS)
    here(RESUME)
    assert contents(FIRST) == expected


@pytest.fixture(scope="module")
def ended_once(whole, tmp_path_factory):
    """The folder of a run that was ended after step 8, saved after steps 3, 5 (an epoch), 6."""
    folder = tmp_path_factory.mktemp("ended")
    shutil.copytree(whole / "data", folder / "data")
    with inside(folder) as here:
        end_after(here, 8)
    return folder


@pytest.fixture
def ended(here, ended_once) -> Here:
    """As `here`, with a copy of the run of `ended_once`."""
    shutil.copytree(ended_once / "experiments", "experiments")
    return here


@pytest.mark.parametrize("damage", [flip_a_byte, cut(0.5), text(""), gone])
def test_the_state_before_is_taken_for_a_damaged_one(ended, expected, damage):
    """A missing one is that of a run that ended between the two renames of a save."""
    last, previous = states(FIRST)
    damage(last)
    damaged = last.read_bytes() if last.exists() else None
    out = ended(RESUME).out
    assert "resumed from step 5 of" in out
    assert (f"warning: {last}: " in out and str(previous) in out) is (damage is not gone)
    if damage is not gone:
        assert last.with_name("last.damaged.pth").read_bytes() == damaged
    assert contents(FIRST) == expected


@pytest.mark.parametrize("damage", [cut(0.5), gone])
def test_a_run_of_which_no_state_is_intact_is_refused(ended, whole, damage):
    """It is not begun anew either."""
    shutil.copytree(whole / FIRST, "copy")
    for file in states(Path("copy")):
        damage(file)
    refused(ended.run, states(Path("copy"))[0], "train.py --resume copy")


def test_flags_that_agree_with_the_run_are_taken(ended, expected):
    refused(ended.run, "--max-epochs 5", f"{RESUME} --max-epochs 5")  # OneCycleLR ends with 3
    ended(f"{FLAGS} --resume {FIRST} --device cpu --workers 1")
    assert contents(FIRST) == expected


HOLDING = """
import sys
from lib.experiment.folder import Experiment
one = Experiment(sys.argv[1])
one.lock()
print(flush=True)
sys.stdin.read()
"""


def test_a_run_that_another_process_trains_is_left_alone(ended):
    command = [sys.executable, "-c", HOLDING, FIRST]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, **pipes) as held:
        held.stdout.readline()
        refused(ended.run, FIRST, RESUME)
        before = contents(FIRST)
        ended(f"{FLAGS} --resume auto")  # the same flags then begin a new run
        assert SECOND.exists() and contents(FIRST) == before
        held.stdin.close()


def test_auto_resumes_the_latest_unfinished_run_of_the_same_flags(ended, expected):
    ended(f"{FLAGS} --lr 1e-4 --resume auto")  # others: a new run
    ended(f"{FLAGS} --resume auto --workers 1")  # the same: the first
    assert contents(FIRST) == expected
    ended(f"{FLAGS} --resume auto")  # none is unfinished: a new run
    lines = (RUNS / "checkpoint.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["exp1", "exp2", "exp1", "exp3"]


def test_a_run_from_before_exif_resumes_with_stored_images(ended, expected):
    for file in states(FIRST):
        state = torch.load(file, weights_only=True)
        assert state["config"].pop("exif") == "upright"
        torch.save(state, file)
    swap("exif: upright\n", "")(FIRST / "config.yaml")
    assert "--exif stored" in ended.refused("--exif upright", f"{RESUME} --exif upright")
    ended(RESUME)
    found = contents(FIRST)
    assert found["history"] == expected["history"]  # no image of these asks for a turn
    assert found["best_ema_model.pth"]["model"] == expected["best_ema_model.pth"]["model"]
    assert found["last.pth"]["config"]["exif"] == "stored"
    assert "exif: stored\n" in (FIRST / "config.yaml").read_text()


def test_a_state_of_the_first_version_resumes(ended, expected):
    """Its names of the method's head had no prefix."""
    for file in states(FIRST):
        state = torch.load(file, weights_only=True)
        assert state.pop("version") == 2
        for part in ("model", "ema"):
            state[part] = {key.removeprefix("head."): one for key, one in state[part].items()}
        torch.save(state, file)
    ended(RESUME)
    assert contents(FIRST) == expected


def test_what_a_launcher_starts_again_resumes_its_own_run(ended, expected, monkeypatch):
    """Not any unfinished run of these flags, unless it had made one."""
    ended(f"{FLAGS} --max-epochs 1")
    assert SECOND.exists()
    monkeypatch.setattr(World, "store_get", lambda self, name: str(FIRST))
    assert "resumed from step 6 of" in ended(FLAGS).out
    assert contents(FIRST)["history"] == expected["history"]


@pytest.mark.parametrize("scheduler", ["StepLR", "ReduceLROnPlateau"])
def test_more_epochs_with_an_open_ended_schedule(here, scheduler):
    here(f"{FLAGS} --lr-scheduler {scheduler}")
    here(f"{FLAGS} --lr-scheduler {scheduler} --max-epochs 1")
    here(f"train.py --resume {SECOND} --max-epochs 3")
    one, two = contents(FIRST), contents(SECOND)
    assert one["history"] == two["history"] and one["last.pth"] == two["last.pth"]
    assert one["log"].splitlines()[-3:] == two["log"].splitlines()[-3:]
    assert "max_epochs: 3" in (SECOND / "config.yaml").read_text()


def test_a_finished_run_is_done(here, whole):
    shutil.copytree(whole / FIRST, "copy")
    before = contents(Path("copy"))
    assert "best EMA mAP" in here("train.py --resume copy").out
    assert contents(Path("copy")) | {"log": ""} == before | {"log": ""}


@pytest.mark.parametrize("signum, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("moment", ["step", "validation"])
def test_a_signal_finishes_the_step_and_saves(here, expected, signum, code, moment):
    name, at = {"step": ("leave_if_asked", 7), "validation": ("validate", 10)}[moment]
    original = getattr(fit, name)

    def signalled(run, *arguments):
        if run.state.step == at:
            signal.raise_signal(signum)
        return original(run, *arguments)

    with here.monkeypatch.context() as patched:
        patched.setattr(fit, name, signalled)
        result = here.run(FLAGS)
    assert result.code == code and "Traceback" not in result.err
    assert f"after step {at}" in result.out and f"python {RESUME}" in result.out
    assert f"resumed from step {at} of" in here(RESUME).out
    assert contents(FIRST) == expected


def test_a_signal_and_its_echo_are_one(monkeypatch):
    """A launcher passes on what its processes have got themselves."""
    clock = iter([10.0, 14.0, 16.0])
    monkeypatch.setattr("lib.common.signals.time.monotonic", lambda: next(clock))
    with StopRequest(echo=5) as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert stop.signum == signal.SIGTERM
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)


def test_a_second_signal_ends_at_once(here, monkeypatch):
    def signalled(*arguments):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("went on")

    monkeypatch.setattr(fit, "leave_if_asked", signalled)
    assert here.run(FLAGS).code == 143
    assert not (FIRST / "checkpoints").exists()


@pytest.mark.slow
def test_fifty_kills_of_a_resumed_run(here, expected):
    """Killed at random moments, from the start of the process to its end; resumed each time."""
    draw, kills, finished, longest = random.Random(0), 0, 0, None
    command = f"{FLAGS} --save-every 1 --resume auto --workers 1"
    while kills < 50:
        begin = time.monotonic()
        process = start(command, cwd=Path.cwd(), new_interpreter=True)
        try:
            assert process.wait(draw.uniform(0, longest or 20)) == 0
            longest = max(longest or 0, time.monotonic() - begin)
            finished += 1
            assert contents(RUNS / f"exp{finished}") == expected
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
        for file in Path().rglob("last*.pth"):
            torch.load(file, weights_only=True)
    assert run(command, cwd=Path.cwd()).code == 0
    assert contents(RUNS / f"exp{finished + 1}") == expected
    assert not list(Path().rglob("*damaged*"))
