"""Where a run computes, and in which precision."""

import contextlib
import os
from collections.abc import Iterator

import torch

from lib.common.errors import UserError


def select_device(name: str, local_rank: int = 0) -> torch.device:
    """The device of `--device`: `auto` is CUDA, then MPS, then the CPU, whichever is there.

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
    """Number type of mixed precision: bfloat16 where the device has it, float16 elsewhere."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.float16 if device.type == "mps" else torch.bfloat16


def autocast(device: torch.device, amp: bool) -> torch.autocast:
    """Mixed precision on `device` where `amp` asks for it."""
    return torch.autocast(device.type, dtype=amp_dtype(device), enabled=amp)


def grad_scaler(device: torch.device, amp: bool) -> torch.amp.GradScaler:
    """Loss scaling, which float16 alone needs; it is to live as long as the run."""
    return torch.amp.GradScaler(device.type, enabled=amp and amp_dtype(device) == torch.float16)


def get_rng_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Where the random numbers of the CPU and of `device` stand."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_rng_state(device: torch.device, states: dict[str, torch.Tensor]) -> None:
    """Take `get_rng_state` back, as far as it knows `device`."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def allow_tf32() -> None:
    """Let CUDA round matrix products to TF32 too, as PyTorch lets it round convolutions."""
    torch.backends.cuda.matmul.allow_tf32 = True


def make_deterministic() -> None:
    """Let PyTorch compute by operations alone that give the same bits each time."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first product
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """Keep CUDA's convolutions and products in float32, whatever training lets them do."""
    backends = (torch.backends.cudnn, torch.backends.cuda.matmul)
    allowed = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = False
    try:
        yield
    finally:
        for backend, before in zip(backends, allowed, strict=True):
            backend.allow_tf32 = before


@contextlib.contextmanager
def memory_guard(batch_size: int) -> Iterator[None]:
    """Turn what the device lacks into a `UserError`: memory, which says what to lower, or, with
    --deterministic, an operation."""
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
            f"--deterministic: PyTorch computes {operation} of this --arch in no fixed order here: "
            "choose another, or leave the flag out: --seed alone gives the same up to rounding"
        ) from error
