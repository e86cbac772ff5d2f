"""What the device changes in the commands: numbers, memory, and which one it is."""

from pathlib import Path

import pytest
import torch

from lib.predictor import Predictor
from models.classifier import Classifier
from tests.helpers.commands import TINY, error_line, error_where, make_data, run_here
from tests.helpers.refusals import refused

TRAIN = ("train.py", *TINY, "--data", "colors", "--batch-size", "4", "--max-epochs", "1")
EVALUATE = ("evaluate.py", "--exp-dir", "experiments/mlic_colors/exp1", "--workers", "0")
OOM = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_data(tmp_path)
    return lambda *command: run_here(monkeypatch, capsys, *command)


def test_validation_computes_as_training_does_and_evaluation_exactly(here, monkeypatch):
    """On a GPU, convolutions in TF32 take a quarter of the time."""
    seen = []

    def forward(model, images):
        if len(images) > 1:  # one image is folded
            seen.append((model.training, torch.backends.cudnn.conv.fp32_precision))
        return before(model, images)

    before = Classifier.forward
    monkeypatch.setattr(Classifier, "forward", forward)
    assert here(*TRAIN).code == 0
    assert set(seen) == {(True, "tf32"), (False, "tf32")}
    seen.clear()
    assert here(*EVALUATE).code == 0
    assert set(seen) == {(False, "ieee")}


@pytest.mark.parametrize(
    "command, when, says",
    [
        (TRAIN, "training", "at --batch-size 4, with 4 images at once on this device: lower --bat"),
        (
            (*TRAIN, "--accum-steps", "2", "--batch-size", "6"),
            "training",
            "6, with 3 images at once",
        ),
        (TRAIN, "validation", "with 4 images at once: pass --validate ema, or lower --batch-size"),
        (
            (*TRAIN, "--validate", "ema"),
            "validation",
            "out of memory with 4 images at once: lower --batch-size",
        ),
        (EVALUATE, "evaluation", "out of memory with 4 images at once: lower --batch-size"),
    ],
)
def test_out_of_memory_says_what_helps_there(here, monkeypatch, command, when, says):
    if when == "evaluation":
        assert here(*TRAIN).code == 0

    def forward(model, images):
        if len(images) > 1 and model.training == (when == "training"):
            raise OOM
        return before(model, images)

    before = Classifier.forward
    monkeypatch.setattr(Classifier, "forward", forward)
    line = error_line(here(*command))
    assert says in line
    assert ("--accum-steps" in line) == (when == "training")


def test_out_of_memory_where_nothing_is_trained(toy, monkeypatch, capsys):
    """Advice for training would not help."""

    def forward(model, images):
        if len(images) > 1:  # one image is folded
            raise OOM
        return before(model, images)

    def no_room(model, image_size):
        raise OOM

    before = Classifier.forward
    monkeypatch.setattr(Classifier, "forward", forward)
    with refused(None, "with 2 images at once: lower batch_size"):
        Predictor(toy, device="cpu")(["data/colors/images/test0.png"] * 2)
    infer = ("infer.py", "--exp-dir", toy, "--workers", "0", "--tags-only")
    line = error_line(run_here(monkeypatch, capsys, *infer))
    assert "with 9 images at once: lower --batch-size" in line
    monkeypatch.setattr("lib.predictor.prepare_for_inference", no_room)
    line = error_line(run_here(monkeypatch, capsys, *infer))
    assert "other processes" in line and "--arch" not in line


def test_out_of_memory_for_the_copies_of_a_validation(here, monkeypatch):
    def no_room(model, image_size):
        raise OOM

    monkeypatch.setattr("lib.training.validate.prepare_for_inference", no_room)
    assert "the copies that are validated: pass --validate ema" in error_line(here(*TRAIN))
    assert "validated: choose a smaller" in error_line(here(*TRAIN, "--validate", "ema"))


def index_of(device) -> int:
    return device if isinstance(device, int) else device.index


class Gpus:
    """Patches what Python asks a driver for: `count` GPUs, of which `current` is in use."""

    def __init__(self, monkeypatch, count: int, current: int = 0) -> None:
        self.current = current
        for name, value in {
            "is_available": lambda: True,
            "device_count": lambda: count,
            "current_device": lambda: self.current,
            "set_device": lambda device: setattr(self, "current", device),
            "get_device_capability": lambda device: (9, 0) if index_of(device) == 1 else (7, 5),
            "get_arch_list": lambda: ["sm_75", "sm_90"],
            "is_bf16_supported": lambda including_emulation=True: False,
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)


@pytest.mark.parametrize("name", ["cuda:9", "cuda:x", "cuda:-1", "gpu", "cuda:1:1"])
def test_a_device_that_is_not_there(here, monkeypatch, name):
    Gpus(monkeypatch, 2)
    result = here(*TRAIN, "--device", name)
    assert result.code == 2 and error_where(result) == f"--device {name}"
    assert here(*EVALUATE, "--device", name).code == 2
    with refused(f"--device {name}"):
        Predictor("experiments/none", device=name)


def test_a_switch_of_triton_is_0_or_1(toy, monkeypatch, capsys):
    monkeypatch.setenv("SGRE_TRITON", "maybe")
    evaluate = ("evaluate.py", "--exp-dir", toy, "--workers", "0")
    infer = ("infer.py", "--exp-dir", toy, "--workers", "0")
    for command in (TRAIN, evaluate, infer):
        result = run_here(monkeypatch, capsys, *command)
        assert result.code == 2 and error_where(result) == "SGRE_TRITON=maybe"


def test_a_program_keeps_its_present_gpu(monkeypatch):
    from lib.runtime.device import amp_dtype, select_device

    gpus = Gpus(monkeypatch, 3, current=2)
    assert select_device("cuda:1") == torch.device("cuda:1")
    assert select_device("cuda") == select_device("auto") == torch.device("cuda:2")
    assert [select_device("cuda", rank).index for rank in range(4)] == [0, 1, 2, 0]
    assert gpus.current == 2
    # each GPU's own number type, though PyTorch only says that of the present one
    assert amp_dtype(torch.device("cuda:1")) == torch.bfloat16
    assert amp_dtype(torch.device("cuda:0")) == amp_dtype(torch.device("cuda:2")) == torch.float16


def test_one_gpu_of_a_run_of_several_processes_is_refused(here, monkeypatch):
    Gpus(monkeypatch, 2)
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    for name, value in (("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "9")):
        monkeypatch.setenv(name, value)
    assert error_where(here(*TRAIN, "--device", "cuda:1")) == "--device cuda:1"


def test_features_of_another_number_type_are_computed_anew(here, monkeypatch):
    """float16 of one GPU are not the bfloat16 of another."""
    flags = ("--freeze-backbone", "--cache-features", "features", "--amp")
    assert here(*TRAIN, *flags).code == 0
    first = {file.name for file in Path("features").iterdir()}
    assert here(*TRAIN, *flags).code == 0
    assert {file.name for file in Path("features").iterdir()} == first
    for place in ("lib.experiment.features", "lib.runtime.device"):
        monkeypatch.setattr(f"{place}.amp_dtype", lambda device: torch.float16)
    assert here(*TRAIN, *flags).code == 0
    assert len(list(Path("features").iterdir())) == 2 * len(first)
