"""What the device changes in the commands: numbers, memory, and which one it is."""

from pathlib import Path

import pytest
import torch

from lib.predictor import Predictor
from lib.runtime.device import amp_dtype, memory_guard, select_device
from models.classifier import Classifier
from tests.helpers.commands import RUN, error_line, run_here
from tests.helpers.commands import TRAIN as COLORS
from tests.helpers.refusals import refused

TRAIN = f"{COLORS} --batch-size 4 --max-epochs 1"
EVALUATE = f"evaluate.py --workers 0 --exp-dir {RUN}"
OOM = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")


def test_validation_computes_as_training_does_and_evaluation_exactly(here, monkeypatch):
    """On a GPU, convolutions in TF32 take a quarter of the time."""
    seen = []

    def forward(model, images):
        if len(images) > 1:  # one image is folded
            seen.append((model.training, torch.backends.cudnn.conv.fp32_precision))
        return before(model, images)

    before = Classifier.forward
    monkeypatch.setattr(Classifier, "forward", forward)
    here(TRAIN)
    assert set(seen) == {(True, "tf32"), (False, "tf32")}
    seen.clear()
    here(EVALUATE)
    assert set(seen) == {(False, "ieee")}


@pytest.mark.parametrize(
    "command, when, images, remedies",
    [
        (TRAIN, "training", 4, ["--batch-size", "--accum-steps"]),
        (
            f"{TRAIN} --accum-steps 2 --batch-size 6",
            "training",
            3,
            ["--batch-size", "--accum-steps"],
        ),
        (TRAIN, "validation", 4, ["--validate ema", "--batch-size"]),
        (f"{TRAIN} --validate ema", "validation", 4, ["--batch-size"]),
        (EVALUATE, "evaluation", 4, ["--batch-size"]),
    ],
)
def test_out_of_memory_says_what_helps_there(here, monkeypatch, command, when, images, remedies):
    if when == "evaluation":
        here(TRAIN)

    def forward(model, images):
        if len(images) > 1 and model.training == (when == "training"):
            raise OOM
        return before(model, images)

    before = Classifier.forward
    monkeypatch.setattr(Classifier, "forward", forward)
    line = here.refused("out of memory", command)
    assert f"with {images} images at once" in line
    every = ("--batch-size", "--accum-steps", "--validate ema")
    assert [flag for flag in every if flag in line.split("at once")[1]] == sorted(
        remedies, key=every.index
    )


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
    assert "--validate ema" in here.refused("out of memory", TRAIN)
    assert "--validate" not in here.refused("out of memory", f"{TRAIN} --validate ema")


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
    here.refused(f"--device {name}", f"{TRAIN} --device {name}")
    assert here.run(f"{EVALUATE} --device {name}").code == 2
    with refused(f"--device {name}"):
        Predictor("experiments/none", device=name)


@pytest.mark.parametrize("program", ["train.py", "evaluate.py", "infer.py"])
def test_a_switch_of_triton_is_0_or_1(toy, commands, monkeypatch, program):
    monkeypatch.setenv("SGRE_TRITON", "maybe")
    command = TRAIN if program == "train.py" else f"{program} --workers 0 --exp-dir {toy}"
    commands.refused("SGRE_TRITON=maybe", command)


def test_a_program_keeps_its_present_gpu(monkeypatch):
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
    here.refused("--device cuda:1", f"{TRAIN} --device cuda:1")


def test_features_of_another_number_type_are_computed_anew(here, monkeypatch):
    """float16 of one GPU are not the bfloat16 of another."""
    command = f"{TRAIN} --freeze-backbone --cache-features features --amp"
    here(command)
    first = {file.name for file in Path("features").iterdir()}
    here(command)
    assert {file.name for file in Path("features").iterdir()} == first
    for place in ("lib.experiment.features", "lib.runtime.device"):
        monkeypatch.setattr(f"{place}.amp_dtype", lambda device: torch.float16)
    here(command)
    assert len(list(Path("features").iterdir())) == 2 * len(first)


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
    for extra in ("", "--seed 3", "--seed 3", *["--seed 3 --deterministic"] * 2):
        here(f"{TRAIN} --pos {extra}")
        assert torch.are_deterministic_algorithms_enabled() == ("--deterministic" in extra)
        torch.use_deterministic_algorithms(False)
    other, seed, again, bits, bits_again = (weights(number) for number in range(1, 6))
    for name in seed:
        torch.testing.assert_close(seed[name], again[name], rtol=1e-4, atol=1e-5)
        assert torch.equal(bits[name], bits_again[name]), name
    assert not all(torch.equal(seed[name], other[name]) for name in seed)


def test_an_operation_of_no_fixed_order_is_named(free):
    torch.use_deterministic_algorithms(True)
    with refused("--deterministic", "put_", "--arch"), memory_guard(1):
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2))
    with pytest.raises(RuntimeError, match="inconsistent"), memory_guard(1):
        torch.zeros(2) @ torch.zeros(3)
