"""Precision and memory of the device."""

import contextlib
import platform
from types import SimpleNamespace

import pytest
import torch

from lib.runtime import device as device_module
from lib.runtime.device import (
    computes_bfloat16,
    exact_float32,
    memory_guard,
    select_device,
    uses_amp,
)
from lib.training.prepare import _choose_kernels
from tests.helpers.commands import run
from tests.helpers.refusals import refused

CUDA, CUDNN, MKLDNN = torch.backends.cuda, torch.backends.cudnn, torch.backends.mkldnn
PRODUCTS = (CUDA.matmul, CUDNN.conv, CUDNN.rnn, MKLDNN.matmul, MKLDNN.conv)


@pytest.fixture(autouse=True)
def restored():
    """Whatever a test sets, with the switches at their values of before in the end."""
    owners = (torch.backends, *PRODUCTS)
    before = [owner.fp32_precision for owner in owners]
    yield
    for owner, precision in zip(owners, before, strict=True):
        owner.fp32_precision = precision


def set_by_the_older_switches() -> None:
    CUDA.matmul.allow_tf32 = CUDNN.allow_tf32 = True


@pytest.mark.parametrize(
    "set_precision",
    [
        lambda: setattr(torch.backends, "fp32_precision", "tf32"),
        lambda: setattr(CUDNN.conv, "fp32_precision", "tf32"),
        set_by_the_older_switches,
        lambda: torch.set_float32_matmul_precision("medium"),
    ],
)
def test_float32_is_exact_inside_and_as_the_program_set_it_outside(set_precision):
    set_precision()
    before = [product.fp32_precision for product in PRODUCTS]
    assert "tf32" in before
    with contextlib.suppress(KeyError), exact_float32():
        assert [product.fp32_precision for product in PRODUCTS] == ["ieee"] * len(PRODUCTS)
        raise KeyError
    assert [product.fp32_precision for product in PRODUCTS] == before
    if set_precision is set_by_the_older_switches:  # and can read them again
        assert CUDA.matmul.allow_tf32 and CUDNN.allow_tf32


def test_tf32_is_allowed_in_matrix_products_of_cuda_alone():
    CUDA.matmul.fp32_precision = "ieee"
    _choose_kernels(torch.device("cpu"), True, False)
    assert CUDA.matmul.fp32_precision == "ieee"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CUDNN, "benchmark", False)
        _choose_kernels(torch.device("cuda"), True, False)
    assert CUDA.matmul.fp32_precision == "tf32"
    # the compiler reads the older ones
    assert CUDA.matmul.allow_tf32 and torch.get_float32_matmul_precision() == "high"
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
        MemoryError(),
    ],
)
def test_memory_errors_say_what_to_change(error):
    with (
        refused(None, "at --batch-size 7: lower it"),
        memory_guard("at --batch-size 7", "lower it"),
    ):
        raise error


@pytest.mark.parametrize("deterministic", [False, True])
def test_convolutions_are_timed_unless_they_must_be_deterministic(monkeypatch, deterministic):
    for name in ("benchmark", "deterministic"):
        monkeypatch.setattr(CUDNN, name, False)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda on: None)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    _choose_kernels(torch.device("cpu"), False, deterministic)
    assert not CUDNN.benchmark
    _choose_kernels(torch.device("cuda"), False, deterministic)
    assert CUDNN.benchmark is not deterministic and CUDNN.deterministic is deterministic


NO_GPU = "No CUDA GPUs are available"
OLD_DRIVER = "The NVIDIA driver on your system is too old (found version 11040)."


@pytest.mark.parametrize(
    "built, visible, error, name, also_auto",
    [
        (False, None, "", "PyTorch", False),
        (True, None, "Found no NVIDIA driver on your system.", "driver", False),
        (True, "0", "Found no NVIDIA driver on your system.", "driver", False),
        (True, None, NO_GPU, NO_GPU, False),
        (True, "", NO_GPU, "CUDA_VISIBLE_DEVICES=''", False),
        (True, "9", NO_GPU, "CUDA_VISIBLE_DEVICES=9", True),
        (True, None, OLD_DRIVER, "11040", True),
        (True, None, "CUDA unknown error", "CUDA unknown error", True),
    ],
)
def test_why_there_is_no_cuda(monkeypatch, built, visible, error, name, also_auto):
    def init():
        raise RuntimeError(error)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: built)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with refused("--device cuda", name, "--device cpu"):
        select_device("cuda")
    if also_auto:
        with refused("--device auto", name):
            select_device("auto")
    else:
        assert select_device("auto").type in ("cpu", "mps")
    assert select_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    "capability, built, runs",
    [
        ((8, 6), ["sm_80", "sm_90"], True),
        ((8, 0), ["sm_86", "sm_90a"], False),
        ((3, 7), ["sm_75", "sm_80", "compute_90"], False),
        ((12, 1), ["sm_75", "sm_100"], False),
        ((12, 1), ["sm_75", "compute_100"], True),
        ((9, 0), [], True),
        ((9, 4), ["gfx942"], True),  # AMD's
    ],
)
def test_a_gpu_that_this_pytorch_has_no_code_for(monkeypatch, capability, built, runs):
    cuda = SimpleNamespace(
        is_available=lambda: True,
        device_count=lambda: 2,
        set_device=lambda index: None,
        current_device=lambda: 1,
        get_device_capability=lambda index: capability,
        get_device_name=lambda index: "Tesla K80",
        get_arch_list=lambda: built,
    )
    monkeypatch.setattr("lib.runtime.device.torch.cuda", cuda)
    if runs:
        assert select_device("auto") == torch.device("cuda", 1)
        return
    with refused(None, "GPU 1 (Tesla K80)", "{}.{}".format(*capability), "--device cpu"):
        select_device("auto")


def test_a_cpu_computes_bfloat16_if_pytorch_says_so(monkeypatch):
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    for found in ((False, False), (True, False), (False, True)):
        for name, value in zip(names, found, strict=True):
            monkeypatch.setattr(torch.cpu, name, lambda value=value: value)
        assert computes_bfloat16(torch.device("cpu")) is any(found)
    assert not computes_bfloat16(torch.device("mps"))
    for name in names:  # another PyTorch
        monkeypatch.delattr(torch.cpu, name)
    assert not computes_bfloat16(torch.device("cpu"))


def test_threads_leave_the_switches_as_the_first_found_them():
    """Two threads overlap: the one that is left goes on exactly, and the last restores."""
    MKLDNN.matmul.fp32_precision = "bf16"
    first, second = exact_float32(), exact_float32()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert MKLDNN.matmul.fp32_precision == "ieee"
    second.__exit__(None, None, None)
    assert MKLDNN.matmul.fp32_precision == "bf16"


@pytest.mark.parametrize("native", [False, True])
def test_auto_precision_is_bfloat16_where_it_is_native(monkeypatch, native):
    monkeypatch.setattr(device_module, "computes_bfloat16", lambda device: native)
    cpu = torch.device("cpu")
    for trained in (False, True):
        assert uses_amp("auto", cpu, trained=trained) is native
        assert uses_amp("bfloat16", cpu, trained=trained)
        assert not uses_amp("float32", cpu, trained=trained)
    with refused("--precision bfloat16", "--precision float32"):
        uses_amp("bfloat16", torch.device("mps"), trained=True)
    # as in training, but never in an emulated bfloat16
    assert uses_amp(None, cpu, trained=True) is native and not uses_amp(None, cpu, trained=False)
    assert uses_amp(None, torch.device("mps"), trained=True)


COUNT_FAULTS = """
import resource, sys, torch
from lib.runtime.device import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory(torch.device("cpu"))
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for number in range(25):
    if number == 20:
        before = faults()
    tensor = torch.zeros(2**24)
print(faults() - before)
"""


@pytest.mark.skipif("glibc" not in platform.libc_ver(), reason="another C library")
def test_freed_memory_is_used_again(tmp_path):
    counts = [int(run("-c", COUNT_FAULTS, mode, cwd=tmp_path).out) for mode in ("keep", "return")]
    assert counts[0] < 100 < 5 * 2**26 / 2**21 <= counts[1], counts  # pages of 2 MiB at most


def older_switches():
    return (
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        torch.get_float32_matmul_precision(),
    )


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
@pytest.mark.parametrize("convolutions", [True, False])
def test_a_program_can_read_pytorchs_older_switches_meanwhile(precision, convolutions):
    """As torch.compile and the profiler do; PyTorch refuses to read a mix of both kinds."""
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = convolutions
    try:
        before = older_switches()
        with exact_float32():
            assert older_switches() == (False, False, "highest")
        assert older_switches() == before
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = True
