"""The Triton kernels of bilinear attention: against the literal formula by Triton's interpreter,
compiled for GPUs that are not there, and how they are launched."""

import importlib
import json
import os
import subprocess
import sys

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.helpers.commands import ROOT

pytest.importorskip("triton", reason="Triton is not installed, as outside Linux")
bilinear_triton = importlib.import_module("models.bilinear_triton")
KERNELS = ("_forward", "_backward_patches", "_backward_labels")

# the interpreter is chosen when Triton is imported, hence a process of its own
COMPARE = """
import json, sys, torch
from models import bilinear, bilinear_triton as kernels

def error(one, other):
    assert one.shape == other.shape
    if not one.numel():
        return 0.0
    return ((one.double() - other).abs().max() / other.abs().max().clamp(min=1e-9)).item()

tile, found = int(sys.argv[2]), {}
for name, tiles in (
    ("_forward", kernels.TILES),
    ("_backward_patches", kernels.TILES),
    ("_backward_labels", kernels.LABEL_TILES),
):
    getattr(kernels, name).configs = [kernels.tile_config(*tiles[tile])]
for name, (images, patches, labels, size, dtype, scale) in json.loads(sys.argv[1]).items():
    torch.manual_seed(0)
    dtype = getattr(torch, dtype)
    x = (scale * torch.randn(images, size, patches)).to(dtype).mT  # not contiguous
    e, w = torch.randn(size, labels).to(dtype).T, torch.randn(2 * size).to(dtype)[::2]
    mix = torch.randn(images, patches, labels).mT
    exact = [one.double().requires_grad_() for one in (x, e, w)]
    scores = (torch.tanh(exact[0][:, None] * exact[1][None, :, None]) * exact[2]).sum(-1)
    expected = torch.autograd.grad((scores * mix).sum(), exact)
    gradients = kernels.scores_backward(x, e, w, mix)
    assert all(one.dtype == dtype and one.is_contiguous() for one in gradients)
    ours = [kernels.scores_forward(x, e, w), *gradients]
    found[name] = list(map(error, ours, [scores, *expected]))
kernels.try_out(torch.device("cpu"))
bilinear._takes_triton = lambda patches: True
given = [one.float().requires_grad_() for one in (x, e, w)]
torch.library.opcheck(bilinear.bilinear_scores, given)
torch.library.opcheck(bilinear.bilinear_scores_backward, [one.detach() for one in (*given, mix)])
print(json.dumps(found))
"""
CASES = {
    "one of each": (1, 1, 1, 1, "float32", 1),
    "nothing fits a tile": (2, 13, 17, 37, "float32", 1),
    "more chunks than rows": (1, 3, 5, 20, "float32", 1),
    "several tiles and chunks": (3, 29, 33, 40, "float32", 1),
    "tiny inputs": (1, 9, 6, 20, "float32", 1e-4),
    "huge inputs": (1, 9, 6, 20, "float32", 1e8),
    "no images": (0, 3, 4, 16, "float32", 1),
    "no patches": (2, 0, 4, 16, "float32", 1),
    "no labels": (2, 3, 0, 16, "float32", 1),
    "float16": (2, 9, 6, 20, "float16", 1),
    "bfloat16": (2, 9, 6, 20, "bfloat16", 1),
}
# of the result; the interpreter cuts bfloat16 off, where a GPU rounds to the nearest
ROUNDING = {"float32": 1e-5, "bfloat16": 2**-7, "float16": 2**-11}


@pytest.mark.parametrize("tile", range(3))
def test_scores_and_gradients_match_the_formula(tile):
    """For inputs that are not contiguous; and the operators are what PyTorch expects of them."""
    done = subprocess.run(
        [sys.executable, "-c", COMPARE, json.dumps(CASES), str(tile)],
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for case, (scores, *gradients) in json.loads(done.stdout).items():
        assert scores < 1e-5, case  # always accumulated in float32
        assert max(gradients) < ROUNDING[CASES[case][4]], case


# by the autotuner, with the signature of a launch, for a driver that names another GPU
COMPILE = """
import torch
from types import SimpleNamespace
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from models import bilinear_triton as kernels

exact, sizes = torch.float32, (64 * 196, 196, 80, 1024, 6)
for arch in (80, 90):
    driver.set_active(SimpleNamespace(
        get_current_target=lambda: GPUTarget("cuda", arch, 32),
        get_current_device=lambda: arch,
        get_current_stream=lambda device: 0,
    ))
    for given in (torch.bfloat16, exact):
        inputs = (given, given, exact, exact)  # patches, labels, weight, scores
        for kernel, others in (
            (kernels._forward, sizes),
            (kernels._backward_patches, (given, *sizes)),
            (kernels._backward_labels, (exact, exact, *sizes, 392)),
        ):
            for code in kernel.warmup(*inputs, *others, grid=(1,)):
                print(code.metadata.target.arch, code.name, len(code.asm["cubin"]))
"""


def test_every_tile_compiles_for_gpus_that_are_not_here(tmp_path):
    from triton import knobs

    try:
        assert knobs.nvidia.ptxas.path
    except RuntimeError as error:
        pytest.skip(f"no ptxas: {error}")
    environment = {name: value for name, value in os.environ.items() if "TRITON" not in name}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE],
        cwd=ROOT,
        env=environment | {"TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    kernels = [line.split() for line in done.stdout.splitlines()]
    assert len(kernels) == 2 * 2 * 3 * 3  # GPUs, number types, kernels and tiles
    assert {arch for arch, *_ in kernels} == {"80", "90"}
    assert all(int(size) > 1000 for *_, size in kernels)


class Launches:
    """In place of a kernel: keeps the present GPU and the arguments of each launch."""

    def __init__(self, present, found):
        self.present, self.found = present, found

    def __getitem__(self, grid):
        return lambda *arguments: self.found.append((self.present[0], arguments))


@pytest.fixture
def launches(monkeypatch):
    """Launches of the kernels on GPUs that are not there."""
    present, found = [0], []

    def exchange(index):
        before, present[0] = present[0], index
        return before

    for name in ("_exchange_device", "_maybe_exchange_device"):
        monkeypatch.setattr(torch.cuda, name, exchange)
    for name in KERNELS:
        monkeypatch.setattr(bilinear_triton, name, Launches(present, found))
    with FakeTensorMode():
        yield found
    assert present == [0]


def launch(images: int, patches: int) -> None:
    x, e, w, mix = (
        torch.ones(shape, device="cuda:1")
        for shape in ((images, patches, 8), (3, 8), (8,), (images, 3, patches))
    )
    bilinear_triton.scores_forward(x, e, w)
    bilinear_triton.scores_backward(x, e, w, mix)


def test_kernels_run_on_the_gpu_of_their_tensors(launches):
    """And not on the one that the thread uses at present."""
    launch(2, 9)
    assert [gpu for gpu, _ in launches] == [1, 1, 1]


def test_tiles_of_one_image_are_not_those_of_a_batch(launches, monkeypatch):
    for images in (1, 60, 64):
        launch(images, 196)
    buckets = [
        [number for number in arguments if isinstance(number, int)][4] for _, arguments in launches
    ]
    one, sixty, more = buckets[:3], buckets[3:6], buckets[6:]
    assert len(set(one)) == len(set(sixty)) == 1 and one != sixty == more
    monkeypatch.undo()
    for name in KERNELS:
        assert "BUCKET" in getattr(bilinear_triton, name).keys
