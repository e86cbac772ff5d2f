"""What fails in the middle of a run, from the command line: a clear line, nothing lost."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lib.common.errors import UserError
from lib.runtime.device import memory_guard
from tests.helpers.commands import ROOT, TINY, NoCapture, error_line, make_data, run, run_here

TRAIN = ("train.py", *TINY, "--data", "colors", "--batch-size", "4", "--max-epochs", "2")
EXPERIMENT = "experiments/mlic_colors/exp1"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A working folder with data/colors and an experiment of two epochs."""
    folder = tmp_path_factory.mktemp("trained")
    make_data(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", [])
        assert run_here(patch, NoCapture(), *TRAIN).code == 0
    return folder


@pytest.fixture
def here(trained, tmp_path, monkeypatch, capsys, no_curves):
    """Runs a command in a copy of the working folder."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return lambda *command: run_here(monkeypatch, capsys, *command)


def spoil(*names):
    """Make pictures of data/colors unreadable, each in another way."""
    for number, name in enumerate(names):
        file = f"data/colors/images/{name}.png"
        whole = open(file, "rb").read()
        content = (whole[: len(whole) // 2], b"", b"no picture")[number % 3]
        with open(file, "wb") as out:
            out.write(content)


def test_unreadable_images_are_skipped_up_to_a_number(here):
    spoil("train0", "train3", "test2")
    result = here(*TRAIN, "--max-bad-images", "3")
    assert result.code == 0, result.err
    log = open("experiments/mlic_colors/exp2/train.log").read()
    for text in (result.out, log):
        assert text.count("skipped: data/colors/images/train3.png: not a readable image") == 1
        assert "skipped 3 images (--max-bad-images 3):\n  data/colors/images/" in text
    assert log.splitlines()[-1].startswith("best EMA mAP")


def test_one_more_unreadable_image_stops(here):
    spoil("train0", "train3", "test2")
    line = error_line(here(*TRAIN, "--max-bad-images", "2"))
    assert "is one more than --max-bad-images 2 allows" in line
    assert "fix or remove it, or tolerate some with" in error_line(here(*TRAIN))


def test_a_batch_without_a_readable_image_is_no_step(here):
    """Six images in batches of four: the second batch has two."""
    spoil(*(f"train{number}" for number in range(5)))
    result = here(*TRAIN, "--max-bad-images", "5", "--batch-size", "2", "--save-every", "1")
    assert result.code == 0, result.err
    state = torch.load("experiments/mlic_colors/exp2/checkpoints/last.pth", weights_only=True)
    assert state["step"] == 2 and state["batch"] == 0 and len(state["bad_images"]) == 5


def test_a_run_goes_on_with_what_it_skipped(here):
    spoil("train0")
    flags = ("--max-bad-images", "1", "--lr-scheduler", "StepLR")
    assert here(*TRAIN, *flags).code == 0
    Image.new("RGB", (9, 9)).save("data/colors/images/train0.png")
    spoil("train1")
    resume = ("train.py", "--resume", "experiments/mlic_colors/exp2", "--max-epochs", "3")
    assert "one more than --max-bad-images 1" in error_line(here(*resume))
    assert "skipped 2 images" in here(*resume, "--max-bad-images", "2").out


def test_the_cache_keeps_which_images_it_could_not_read(here):
    spoil("train0", "test1")
    cached = (*TRAIN, "--cache", "cache")
    assert "fix or remove it" in error_line(here(*cached))
    for _ in range(2):
        result = here(*cached, "--max-bad-images", "2")
        assert result.code == 0 and "skipped 2 images" in result.out, result.err
    assert "fix or remove it" in error_line(here(*cached))


def test_scores_are_those_of_the_images_that_were_read(here):
    command = ("evaluate.py", "--exp-dir", EXPERIMENT, "--workers", "0")
    boxes = {"label": "red", "box": [0, 0, 48, 40], "difficult": False}
    names = [f"data/colors/images/test{number}.png" for number in range(6)]
    json.dump({name: [boxes] for name in names}, open("data/colors/boxes.json", "w"))
    spoil("test1", "test4")
    assert "test1.png: not a readable image" in error_line(here(*command))
    result = here(*command, "--max-bad-images", "2")
    assert result.code == 0 and "skipped 2 images" in result.out, result.err
    found = json.load(open(f"{EXPERIMENT}/results.json"))
    assert found.pop("skipped") == [names[1], names[4]]
    with np.load(f"{EXPERIMENT}/scores.npz") as scores:
        assert scores["ignore"].any(axis=1).tolist() == [False, True, False, False, True, False]
    lines = open("data/colors/test.txt").read().splitlines(keepends=True)
    kept = [line for line in lines if "test1" not in line and "test4" not in line]
    open("data/colors/test.txt", "w").write("".join(kept))
    assert here(*command).code == 0
    expected = json.load(open(f"{EXPERIMENT}/results.json"))
    assert found.pop("per_label") == pytest.approx(expected.pop("per_label"), abs=1e-6)
    assert found.pop("labels_without_positives") == expected.pop("labels_without_positives")
    assert found.pop("evaluation") == expected.pop("evaluation")
    maps, expected_maps = found.pop("localization"), expected.pop("localization")
    assert list(maps) == list(expected_maps) and "evidence" in maps
    for name, measured in maps.items():
        assert measured == pytest.approx(expected_maps[name], abs=1e-6)
    assert found == pytest.approx(expected, abs=1e-6)


def test_nothing_readable_is_no_score(here):
    spoil(*(f"test{number}" for number in range(6)))
    command = ("evaluate.py", "--exp-dir", EXPERIMENT, "--workers", "0", "--max-bad-images", "6")
    assert "test.txt: none of its 6 images can be read" in error_line(here(*command))


@pytest.fixture
def free():
    """Lets PyTorch choose its operations again."""
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False


def weights(number):
    file = f"experiments/mlic_colors/exp{number}/checkpoints/last.pth"
    state = torch.load(file, weights_only=True)
    return state["model"] | {f"ema {name}": tensor for name, tensor in state["ema"].items()}


def test_deterministic_gives_the_same_bits_and_a_seed_the_same_numbers(here, free):
    flags = ("--pos", "--seed", "3", "--max-epochs", "1")
    for extra in ([], [], ["--deterministic"], ["--deterministic"]):
        result = here(*TRAIN, *flags, *extra)
        assert result.code == 0, result.err
        assert torch.are_deterministic_algorithms_enabled() == ("--deterministic" in extra)
        torch.use_deterministic_algorithms(False)
    other, seed, again, bits, bits_again = (weights(number) for number in range(1, 6))
    for name in seed:
        torch.testing.assert_close(seed[name], again[name], rtol=1e-4, atol=1e-5)
        assert torch.equal(bits[name], bits_again[name]), name
    assert not all(torch.equal(seed[name], other[name]) for name in seed)


def test_an_operation_of_no_fixed_order_is_named(free):
    torch.use_deterministic_algorithms(True)
    with pytest.raises(
        UserError, match="--deterministic: PyTorch has no deterministic put_, which this --arch"
    ):
        with memory_guard(1):
            torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2))
    with pytest.raises(RuntimeError, match="inconsistent"), memory_guard(1):
        torch.zeros(2) @ torch.zeros(3)


@pytest.mark.parametrize(
    "place, command",
    [
        ("training.prepare.Ema", TRAIN),
        ("runtime.world.World.wrap_ddp", TRAIN),
        ("training.validate.prepare_for_inference", TRAIN),
        ("predictor.prepare_for_inference", ("evaluate.py", "--exp-dir", EXPERIMENT)),
    ],
)
def test_too_little_memory_without_a_batch_is_one_line(here, monkeypatch, place, command):
    """The weights on the device, their average, DDP's gradients, the copies of validation."""

    def allocate(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr(f"lib.{place}", allocate)
    assert "out of memory for the" in error_line(here(*command))


DYING = """
import os, runpy, sys
from pathlib import Path
import lib.data.dataset as dataset
read_image = dataset.read_image

def killed_once_saved(path, exif):
    if "train" in path and Path("experiments/mlic_colors/exp2/checkpoints/last.pth").exists():
        os.kill(os.getpid(), 9)
    return read_image(path, exif)

dataset.read_image = killed_once_saved
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_worker_that_dies_ends_the_run(here):
    """Killed in the second epoch: the first one is saved, and train.log ends with the reason."""
    command = (ROOT / TRAIN[0], *TRAIN[1:], "--workers", "1")
    result = run("-c", DYING, *command, cwd=Path.cwd())
    assert "a data loading worker died" in error_line(result)
    experiment = Path("experiments/mlic_colors/exp2")
    assert "a data loading worker died" in (experiment / "train.log").read_text().splitlines()[-1]
    assert torch.load(experiment / "checkpoints" / "last.pth")["epoch"] == 1
