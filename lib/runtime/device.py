"""The device that a run computes on, and its precision."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch

from lib.common.errors import UserError


def select_device(name: str, local_rank: int = 0) -> torch.device:
    """The device of `--device`: `auto` is CUDA, MPS or the CPU, the first that is available.

    The processes of a machine take its GPUs in turn.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(device for device, there in available.items() if there)
    if not available[name]:
        raise UserError(f"--device {name}: not available here; pass --device cpu or auto")
    if name == "cuda":
        torch.cuda.set_device(local_rank % torch.cuda.device_count())
        return torch.device(name, torch.cuda.current_device())
    return torch.device(name)


def amp_dtype(device: torch.device) -> torch.dtype:
    """The dtype of mixed precision: bfloat16 if the device has it, else float16."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.float16 if device.type == "mps" else torch.bfloat16


def autocast(device: torch.device, amp: bool) -> torch.autocast:
    """Mixed precision on `device`, if `amp`."""
    return torch.autocast(device.type, dtype=amp_dtype(device), enabled=amp)


def grad_scaler(device: torch.device, amp: bool) -> torch.amp.GradScaler:
    """Loss scaling, which only float16 needs; one scaler must live as long as the run."""
    return torch.amp.GradScaler(device.type, enabled=amp and amp_dtype(device) == torch.float16)


def get_rng_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The random states of the CPU and of `device`."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_rng_state(device: torch.device, states: dict[str, torch.Tensor]) -> None:
    """Restore `get_rng_state`, as far as it has a state of `device`."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def allow_tf32() -> None:
    """Allow TF32 in CUDA's matrix products, as PyTorch does in convolutions."""
    torch.backends.cuda.matmul.fp32_precision = "tf32"


def make_deterministic() -> None:
    """Use deterministic algorithms only."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first product
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """Compute float32 products in float32 inside the block, not in TF32 or bfloat16, whatever
    training or the program around it allows."""
    backends: Any = torch.backends
    cudnn, mkldnn = backends.cudnn, backends.mkldnn
    # cudnn.rnn too: PyTorch's older switches cannot be read where it differs from cudnn.conv
    products = (backends.cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv)
    allowed = [product.fp32_precision for product in products]
    for product in products:
        product.fp32_precision = "ieee"
    try:
        yield
    finally:
        for product, before in zip(products, allowed, strict=True):
            product.fp32_precision = before


@contextlib.contextmanager
def memory_guard(batch_size: int) -> Iterator[None]:
    """Turn an out-of-memory error, and an operation that --deterministic has not, into a
    `UserError` that says what to change."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"out of GPU memory at --batch-size {batch_size}: lower --batch-size or --img-size, "
            "or train with --amp"
        ) from error
    except RuntimeError as error:
        if "does not have a deterministic implementation" not in str(error):
            raise
        operation = str(error).split()[0]
        raise UserError(
            f"--deterministic: PyTorch has no deterministic {operation}, which this --arch needs: "
            "choose another, or leave the flag out: --seed alone is equal up to rounding"
        ) from error
