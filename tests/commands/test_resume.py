"""A run that was ended at any moment and resumed is the run that nothing ended."""

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
from tests.helpers.commands import (
    ROOT,
    TINY,
    NoCapture,
    error_line,
    error_where,
    make_data,
    run_here,
)

# 14 images in batches of 3, the last one short: 5 steps an epoch
FLAGS = (
    *TINY,
    *"--data colors --batch-size 3 --limit 14 --max-epochs 3 --lr 1e-3 --ema-decay 0.5".split(),
    *"--img-size 64 --pos".split(),
)
STEPS = 15


class Ended(BaseException):
    """Stands for the end of the process at a point in the code."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that nothing ended."""
    folder = tmp_path_factory.mktemp("whole")
    make_data(folder, images=16)
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *FLAGS], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def here(whole, tmp_path, monkeypatch, capsys):
    """A folder with the same data; calls run train.py there.

    Curves are drawn by `whole` alone: quicker, and it shows that drawing moves no number.
    """
    shutil.copytree(whole / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lib.experiment.folder.draw_curves", lambda *arguments: None)
    # the number of times that the state is saved is no part of what is compared
    return lambda *flags: run_here(monkeypatch, capsys, "train.py", *flags)


def end_after(monkeypatch, here, step):
    """End a run just after a step, and after what was saved then."""
    leave_if_asked = fit.leave_if_asked

    def ending(run, *others):
        leave_if_asked(run, *others)
        if run.state.step == step:
            raise Ended

    with monkeypatch.context() as patched, pytest.raises(Ended):
        patched.setattr(fit, "leave_if_asked", ending)
        here(*FLAGS, "--save-every", "3")


def experiment(folder: Path, number: int = 1) -> Path:
    return folder / "experiments" / "mlic_colors" / f"exp{number}"


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
    log = re.sub(r"exp\d+", "exp", log)
    log = re.sub(r'"(save_every|workers)": \w+', "", log)
    states = {}
    for name in ("last.pth", "best_ema_model.pth"):
        states[name] = plain(torch.load(path / "checkpoints" / name, weights_only=True))
        for free in ("save_every", "workers", "device"):
            states[name]["config"].pop(free)
    states["last.pth"].pop("sizes")
    return {"history": timeless, "log": log, **states}


def test_the_run_is_the_same_twice(whole, here):
    assert here(*FLAGS).code == 0
    assert contents(experiment(Path())) == contents(experiment(whole))
    assert (experiment(whole) / "curves.png").is_file()


@pytest.mark.parametrize("step, workers", [(1, "0"), (5, "2"), (7, "2"), (10, "0"), (STEPS, "0")])
def test_resumed_after_any_step(whole, here, monkeypatch, step, workers):
    """Ended just after a step, with a state of three steps' distance at most, or none."""
    end_after(monkeypatch, here, step)
    result = here("--resume", str(experiment(Path())), "--workers", workers)
    assert result.code == 0, result.err
    saved = max(step - step % 3, (step - 1) // 5 * 5)  # every third step, and after validation
    assert ("resumed from step" in result.out) == (saved > 0)
    assert f"resumed from step {saved} of" in result.out or not saved
    assert contents(experiment(Path())) == contents(experiment(whole))


@pytest.mark.parametrize(
    "function",
    ["lib.training.fit.validate", "lib.experiment.folder.Experiment.add_history"]
    + ["lib.training.fit.save_last", "lib.experiment.checkpoint.sync_folder"],
)  # fmt: skip
@pytest.mark.parametrize("call", [1, 2])
def test_resumed_between_training_and_saving(whole, here, monkeypatch, function, call):
    calls = []

    def ending(*arguments, **options):
        calls.append(function)
        if len(calls) == call:
            raise Ended
        return original(*arguments, **options)

    with monkeypatch.context() as patched, pytest.raises(Ended):
        original = pkgutil.resolve_name(function)
        patched.setattr(function, ending)
        here(*FLAGS)
    assert here("--resume", str(experiment(Path()))).code == 0
    assert contents(experiment(Path())) == contents(experiment(whole))


@pytest.fixture(scope="module")
def ended_once(whole, tmp_path_factory):
    """The folder of a run that was ended after step 8, saved after steps 3, 5 (an epoch), 6."""
    folder = tmp_path_factory.mktemp("ended")
    shutil.copytree(whole / "data", folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        end_after(patch, lambda *flags: run_here(patch, NoCapture(), "train.py", *flags), 8)
    return folder


@pytest.fixture
def ended(here, ended_once):
    """A copy of the run of `ended_once` to work with, in the working folder."""
    shutil.copytree(ended_once / "experiments", "experiments")
    return experiment(Path())


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


@pytest.mark.parametrize("damage", [flip_a_byte, truncate, lambda file: file.write_bytes(b"")])
def test_a_damaged_state_falls_back_to_the_one_before(whole, here, ended, damage):
    checkpoints = ended / "checkpoints"
    damage(checkpoints / "last.pth")
    damaged = (checkpoints / "last.pth").read_bytes()
    result = here("--resume", str(ended))
    assert result.code == 0 and "resumed from step 5 of" in result.out
    assert "warning: " in result.out and "resuming from" in result.out
    assert (checkpoints / "last.damaged.pth").read_bytes() == damaged
    assert contents(ended) == contents(experiment(whole))


def test_ended_between_the_two_renames_of_a_save(whole, here, ended):
    (ended / "checkpoints" / "last.pth").unlink()
    result = here("--resume", str(ended))
    assert result.code == 0 and "resumed from step 5 of" in result.out
    assert "warning" not in result.out
    assert contents(ended) == contents(experiment(whole))


def snapshot(folder: Path) -> dict:
    return {
        file: file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file.name != "train.lock"
    }


def test_a_run_of_which_no_state_is_intact_is_refused(here, ended):
    for name in ("last.pth", "last.prev.pth"):
        truncate(ended / "checkpoints" / name)
    before = snapshot(ended)
    line = error_line(here("--resume", str(ended)))
    assert "last.pth: no checkpoint" in line and "last.prev.pth: no checkpoint" in line
    assert f"start a new one, from its best weights with --pretrained-model {ended}" in line
    assert snapshot(ended) == before


@pytest.mark.parametrize(
    "name, change", [("num_layers", "2"), ("optimizer", "SGD"), ("lamda", "0.0"), ("pos", "false")]
)
def test_a_changed_config_is_refused(here, ended, name, change):
    file = ended / "config.yaml"
    file.write_text(re.sub(rf"(?m)^{name}: .*$", f"{name}: {change}", file.read_text()))
    before = snapshot(ended)
    says = error_line(here("--resume", str(ended)))
    assert f"config.yaml: says {name}: " in says and "restore that" in says
    assert snapshot(ended) == before


def test_the_state_of_another_network_is_refused(here, ended):
    for name in ("last.pth", "last.prev.pth"):
        state = torch.load(ended / "checkpoints" / name)
        state["model"].pop("head.object_classifier.bias")
        torch.save(state, ended / "checkpoints" / name)
    before = snapshot(ended)
    says = error_line(here("--resume", str(ended)))
    assert (
        "last.pth: the state of another network or optimiser: " in says
        and "object_classifier" in says
    )
    assert snapshot(ended) == before


@pytest.mark.parametrize(
    "flags, says",
    [
        ("--lr 0.5", "--lr 0.5 contradicts the run in"),
        ("--arch test_vit", "it was started with --arch test_resnet"),
        ("--data digits", "--data digits contradicts"),
        ("--amp", "--amp contradicts the run in experiments/mlic_colors/exp1: it was started "),
        ("--clip-grad 1", "it was started without --clip-grad"),
        ("--max-epochs 5", "its OneCycleLR depends on its 3 epochs"),
        ("--max-epochs 2", "it was started with --max-epochs 3"),
        ("--accum-steps 3", "it was started with --accum-steps 1"),
    ],
)
def test_flags_that_contradict_the_run_are_refused(here, ended, flags, says):
    before = snapshot(ended)
    assert says in error_line(here("--resume", str(ended), *flags.split()))
    assert snapshot(ended) == before


def test_flags_that_agree_with_the_run_are_taken(whole, here, ended):
    assert here(*FLAGS, "--resume", str(ended), "--device", "cpu", "--workers", "1").code == 0
    assert contents(ended) == contents(experiment(whole))


@pytest.mark.parametrize(
    "file, change, says",
    [
        ("label.txt", ("green", "black"), "was trained on other labels"),
        ("train.txt", ("train3.png\t", "train3.png\tblue"), "train.txt (or what it ignores) has"),
        ("test.txt", ("test0.png\t", "test0.png\tred"), "test.txt (or what it ignores) has"),
    ],
)
def test_other_labels_or_images_are_refused(here, ended, file, change, says):
    if file == "label.txt":
        for split in ("train", "test"):
            path = Path("data/colors") / f"{split}.txt"
            path.write_text(path.read_text().replace(*change))
    path = Path("data/colors") / file
    lines = [line for line in path.read_text().splitlines(keepends=True)]
    changed = [re.sub(change[0] + "[^\n]*", change[1], line) for line in lines]
    assert changed != lines
    path.write_text("".join(changed))
    before = snapshot(ended)
    assert says in error_line(here("--resume", str(ended)))
    assert snapshot(ended) == before


@pytest.mark.parametrize("folder", ["gone", "data", "data/colors/label.txt"])
def test_what_is_no_run_cannot_be_resumed(here, folder):
    says = error_line(here("--resume", folder))
    assert f"--resume {folder}: no experiment of train.py" in says


def test_a_published_experiment_cannot_be_resumed(here):
    published = Path("published")
    (published / "checkpoints").mkdir(parents=True)
    (published / "config.yaml").write_text("arch: resnet101\ndata: colors\n")
    assert "published/config.yaml: lacks a line 'weights: ...'" in error_line(
        here("--resume", "published")
    )


def test_a_run_whose_states_are_gone_is_not_begun_anew(here, whole):
    shutil.copytree(experiment(whole), "copy")
    for file in Path("copy/checkpoints").glob("last*"):
        file.unlink()
    before = snapshot(Path("copy"))
    assert "no such checkpoint: cannot resume the run" in error_line(here("--resume", "copy"))
    assert snapshot(Path("copy")) == before


def test_a_run_that_goes_on_elsewhere_is_left_alone(here, ended):
    held = subprocess.Popen(
        [sys.executable, "-c", "import sys\nfrom lib.experiment.folder import Experiment\n"
        f"one = Experiment({str(ended)!r})\none.lock()\nprint(flush=True)\nsys.stdin.read()"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        held.stdout.readline()
        before = snapshot(ended)
        assert "another process is training here" in error_line(here("--resume", str(ended)))
        assert snapshot(ended) == before
        # the same flags then begin a new run
        assert here(*FLAGS, "--resume", "auto").code == 0
        assert experiment(Path(), 2).exists() and snapshot(ended) == before
    finally:
        held.kill()
        held.wait()


def test_auto_goes_on_with_the_newest_unfinished_run_of_the_same_flags(whole, here, ended):
    assert here(*FLAGS, "--lr", "1e-4", "--resume", "auto").code == 0  # others: a new run
    assert here(*FLAGS, "--resume", "auto", "--workers", "1").code == 0  # the same: the first
    assert contents(ended) == contents(experiment(whole))
    result = here(*FLAGS, "--resume", "auto")  # none is unfinished: a new run
    assert result.code == 0 and "next: python evaluate.py --exp-dir" in result.out
    names = sorted(path.name for path in ended.parent.glob("exp*"))
    assert names == ["exp1", "exp2", "exp3"]
    lines = (ended.parent / "checkpoint.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["exp1", "exp2", "exp1", "exp3"]


def before_exif(ended):
    """The run as of before `--exif`: nothing in it says how images are read."""
    for name in ("last.pth", "last.prev.pth"):
        state = torch.load(ended / "checkpoints" / name, weights_only=True)
        assert state["config"].pop("exif") == "upright"
        torch.save(state, ended / "checkpoints" / name)
    file = ended / "config.yaml"
    file.write_text(file.read_text().replace("exif: upright\n", ""))


def test_a_run_from_before_exif_goes_on_with_stored_images(whole, here, ended):
    before_exif(ended)
    says = error_line(here("--resume", str(ended), "--exif", "upright"))
    assert "--exif upright contradicts the run" in says and "started with --exif stored" in says
    assert here("--resume", str(ended)).code == 0
    found, expected = contents(ended), contents(experiment(whole))
    assert found["history"] == expected["history"]  # no image of these asks for a turn
    assert found["best_ema_model.pth"]["model"] == expected["best_ema_model.pth"]["model"]
    assert found["last.pth"]["config"]["exif"] == "stored"
    assert "exif: stored\n" in (ended / "config.yaml").read_text()


def test_a_state_of_the_first_version_resumes(whole, here, ended):
    """Its names of the method's head had no prefix."""
    for name in ("last.pth", "last.prev.pth"):
        state = torch.load(ended / "checkpoints" / name, weights_only=True)
        assert state.pop("version") == 2
        for part in ("model", "ema"):
            state[part] = {key.removeprefix("head."): one for key, one in state[part].items()}
        torch.save(state, ended / "checkpoints" / name)
    assert here("--resume", str(ended)).code == 0
    assert contents(ended) == contents(experiment(whole))


def test_a_state_of_a_later_version_is_refused(here, ended):
    (ended / "checkpoints" / "last.prev.pth").unlink()
    file = ended / "checkpoints" / "last.pth"
    torch.save(torch.load(file, weights_only=True) | {"version": 3}, file)
    before = snapshot(ended)
    assert error_where(here("--resume", str(ended))) == str(file)
    assert snapshot(ended) == before


def test_what_a_launcher_starts_anew_goes_on_with_its_own_run(whole, here, ended, monkeypatch):
    """Not with any unfinished run of these flags, unless it had made one."""
    assert here(*FLAGS, "--max-epochs", "1").code == 0
    assert experiment(Path(), 2).exists()
    monkeypatch.setattr(World, "store_get", lambda self, name: str(ended))
    result = here(*FLAGS)
    assert result.code == 0 and "resumed from step 6 of" in result.out
    assert contents(ended)["history"] == contents(experiment(whole))["history"]


@pytest.mark.parametrize("scheduler", ["StepLR", "ReduceLROnPlateau"])
def test_more_epochs_with_an_open_ended_schedule(here, scheduler):
    flags = (*FLAGS, "--lr-scheduler", scheduler, "--max-epochs")
    assert here(*flags, "3").code == 0
    assert here(*flags, "1").code == 0
    second = experiment(Path(), 2)
    assert here("--resume", str(second), "--max-epochs", "3").code == 0
    both = contents(experiment(Path())), contents(second)
    for one in both:
        one["log"] = [line for line in one["log"].splitlines() if not line.startswith("config: ")][
            -3:
        ]
    both[1]["best_ema_model.pth"]["config"]["max_epochs"] = 3
    assert both[0]["history"] == both[1]["history"]
    assert both[0]["last.pth"] == both[1]["last.pth"]
    assert "max_epochs: 3" in (second / "config.yaml").read_text()


def test_a_finished_run_is_done(here, whole):
    shutil.copytree(experiment(whole), "copy")
    before = contents(Path("copy"))
    result = here("--resume", "copy")
    assert result.code == 0 and "best EMA mAP" in result.out
    assert contents(Path("copy")) | {"log": ""} == before | {"log": ""}


@pytest.mark.parametrize("signum, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("moment", ["step", "validation"])
def test_a_signal_finishes_the_step_and_saves(whole, here, monkeypatch, signum, code, moment):
    name, at = {"step": ("leave_if_asked", 7), "validation": ("validate", 10)}[moment]
    original = getattr(fit, name)

    def signalled(run, *arguments):
        if run.state.step == at:
            signal.raise_signal(signum)
        return original(run, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(fit, name, signalled)
        result = here(*FLAGS)
    assert result.code == code and "Traceback" not in result.err
    assert (
        f"stopped after step {at}; resume with: python train.py --resume experiments" in result.out
    )
    result = here("--resume", str(experiment(Path())))
    assert result.code == 0 and f"resumed from step {at} of" in result.out
    assert contents(experiment(Path())) == contents(experiment(whole))


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

    with monkeypatch.context() as patched:
        patched.setattr(fit, "leave_if_asked", signalled)
        assert here(*FLAGS).code == 143
    assert not (experiment(Path()) / "checkpoints").exists()


@pytest.mark.slow
def test_fifty_kills_of_a_resumed_run(whole, tmp_path):
    """Killed at random moments, from the start of the process to its end; resumed each time."""
    shutil.copytree(whole / "data", tmp_path / "data")
    draw = random.Random(0)
    start = time.monotonic()
    command = [sys.executable, str(ROOT / "train.py"), *FLAGS, "--save-every", "1"]
    command += ["--resume", "auto", "--workers", "1"]
    kills, finished, longest = 0, 0, None
    while kills < 50:
        begun = time.monotonic()
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            wait = draw.uniform(0, longest or 20)
            out, _ = process.communicate(timeout=wait)
            assert process.returncode == 0, out
            longest = max(longest or 0, time.monotonic() - begun)
            finished += 1
            assert contents(experiment(tmp_path, finished)) == contents(experiment(whole))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
        for file in tmp_path.rglob("last*.pth"):
            torch.load(file, weights_only=True)
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert contents(experiment(tmp_path, finished + 1)) == contents(experiment(whole))
    print(f"{kills} kills, {finished + 1} runs, {time.monotonic() - start:.0f} s")
    assert not list(tmp_path.rglob("*damaged*"))
