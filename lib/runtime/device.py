"""The device that a run computes on, and its precision."""

import contextlib
import ctypes
import os
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from lib.common.cli import DEVICES, is_device
from lib.common.errors import UserError
from lib.common.failures import explain, quoted
from lib.runtime.cores import available_cores

# in the texts of errors that are no `torch.OutOfMemoryError`
OUT_OF_MEMORY = re.compile(
    r"DefaultCPUAllocator: can't allocate|STATUS_ALLOC_FAILED|Triton Error \[CUDA\]: out of memory"
)
# options of glibc's mallopt
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def select_device(name: str, local_rank: int | None = None) -> torch.device:
    """The device of `--device`: `auto` is CUDA, MPS or the CPU, the first that is available.

    `cuda` is the GPU that the program uses at present; with a `local_rank` the processes of a
    machine take its GPUs in turn. The present GPU stays as it is. Raises `UserError` for a device
    that is not available, and for a GPU that cannot be used: `auto` does not fall back to the CPU
    then.
    """
    if not is_device(name):  # of a program; a command has checked it
        raise UserError(f"--device {name}: must be {DEVICES}")
    kind, _, number = name.partition(":")
    if kind in ("auto", "cuda"):
        if torch.cuda.is_available():
            count = torch.cuda.device_count()
            index = torch.cuda.current_device() if local_rank is None else local_rank % count
            if number:
                index = int(number)
                if index >= count:
                    raise UserError(f"--device {name}: the last GPU here is cuda:{count - 1}")
            _require_capability(index)
            return torch.device("cuda", index)
        problem, hides_gpu = _why_no_cuda()
        if kind == "cuda" or hides_gpu:
            raise UserError(f"--device {name}: {problem}, or pass --device cpu")
    if kind in ("auto", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    if kind == "mps":
        raise UserError("--device mps: not available here; pass --device cpu or auto")
    return torch.device("cpu")


def _why_no_cuda() -> tuple[str, bool]:
    """Why CUDA is not available and what to do, and whether this machine seems to have a GPU."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not torch.backends.cuda.is_built():
        return "this PyTorch is built without CUDA: install one with it", False
    try:
        torch.cuda.init()
        reason = "CUDA finds no GPU"
    except (RuntimeError, AssertionError) as error:
        reason = quoted(error)
        if explained := explain(error):
            return str(explained), True
    if "no NVIDIA driver" in reason:
        return "this machine has no NVIDIA driver: install one", False
    if visible in ("", "-1"):  # the usual ways to ask for none
        return f"CUDA_VISIBLE_DEVICES={visible!r} hides the GPUs: unset it", False
    if visible is not None:
        return f"CUDA_VISIBLE_DEVICES={visible} names no GPU of this machine: unset it", True
    return f"not available ({reason}): see what nvidia-smi says", "No CUDA GPUs" not in reason


def _require_capability(index: int) -> None:
    """Refuse a GPU that this PyTorch has no code for."""
    own = torch.cuda.get_device_capability(index)
    # sm_86 runs on capability 8.6 and later ones of 8; compute_90 is compiled for any from 9.0 on
    built = re.findall(r"\b(sm|compute)_(\d+)(\d)", " ".join(torch.cuda.get_arch_list()))
    runs = [
        own >= (int(major), int(minor)) and (kind == "compute" or own[0] == int(major))
        for kind, major, minor in built
    ]
    if built and not any(runs):
        raise UserError(
            f"GPU {index} ({torch.cuda.get_device_name(index)}) has compute capability "
            f"{own[0]}.{own[1]}, which PyTorch {torch.__version__} lacks "
            f"({' '.join(torch.cuda.get_arch_list())}): install a PyTorch that has it, choose "
            "another GPU with CUDA_VISIBLE_DEVICES, or pass --device cpu"
        )


def amp_dtype(device: torch.device) -> torch.dtype:
    """The dtype of mixed precision: bfloat16 if the device has it, else float16."""
    if device.type == "cuda" and not _gpu_has_bfloat16(device):
        return torch.float16
    return torch.float16 if device.type == "mps" else torch.bfloat16


def _gpu_has_bfloat16(device: torch.device) -> bool:
    if device.index in (None, torch.cuda.current_device()):  # which PyTorch's function asks
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cuda.get_device_capability(device) >= (8, 0)


def computes_bfloat16(device: torch.device) -> bool:
    """Whether `device` computes bfloat16 itself, and not through float32, which is slower. Of CPUs,
    those with AVX-512 BF16 or AMX are known to."""
    if device.type == "cuda":
        return _gpu_has_bfloat16(device)
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # PyTorch has no public ones
    found = [getattr(torch.cpu, name, lambda: False)() for name in names]
    return device.type == "cpu" and any(found)


def emulates_bfloat16(device: torch.device) -> bool:
    """Whether `device` is a CPU that is not known to compute bfloat16 itself: then networks are
    several times slower in it than in float32."""
    return device.type == "cpu" and not computes_bfloat16(device)


def uses_amp(precision: str | None, device: torch.device, *, trained: bool) -> bool:
    """Whether `--precision` means mixed precision on `device`.

    None stands for the precision that a model was `trained` with, but where bfloat16 would be
    emulated for float32. Raises `UserError` for bfloat16 on a device that only has float16.
    """
    if precision == "bfloat16" and amp_dtype(device) != torch.bfloat16:
        raise UserError("--precision bfloat16: this device has none: pass --precision float32")
    if precision is None:
        return trained and not emulates_bfloat16(device)
    return precision == "bfloat16" or (precision == "auto" and computes_bfloat16(device))


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
    with warnings.catch_warnings():  # as in _Exact
        warnings.simplefilter("ignore")
        torch.set_float32_matmul_precision("high")  # sets the older switches and the present ones


def choose_fastest_convolutions() -> None:
    """Let cuDNN time its algorithms for each shape of a convolution: ours are few and fixed."""
    torch.backends.cudnn.benchmark = True


def keep_freed_memory(device: torch.device) -> None:
    """Let glibc keep the memory that tensors free on a CPU, for the next ones.

    By default it gives large blocks back to the system at once, and each training step waits until
    the system has cleared them anew. Does nothing on a GPU, with another C library, or where the
    environment configures malloc.
    """
    configured = any(name.startswith("MALLOC_") for name in os.environ)
    if device.type != "cpu" or sys.platform != "linux" or configured:
        return
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


def limit_threads() -> None:
    """Start no more threads for an operation than there are cores for this process, which a
    container's limit or other ranks may make fewer than it sees; unless the environment says how
    many."""
    if "OMP_NUM_THREADS" not in os.environ and available_cores() < torch.get_num_threads():
        torch.set_num_threads(available_cores())


def make_deterministic() -> None:
    """Use deterministic algorithms only."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first product
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


class _Exact:
    """How many threads are inside `exact_float32`, and the switches from before the first."""

    def __init__(self) -> None:
        self.lock, self.threads = threading.Lock(), 0
        self.old: dict[str, Any] = {}
        self.new: list[str] = []

    def begin(self) -> None:
        with warnings.catch_warnings():  # PyTorch's, once, that newer switches exist
            warnings.simplefilter("ignore")
            self.old, self.new = _older_switches(), [part.fp32_precision for part in _products()]
            _set_older_switches(dict.fromkeys(self.old, False))
        for part in _products():
            part.fp32_precision = "ieee"

    def end(self) -> None:
        _set_older_switches(self.old)
        for part, before in zip(_products(), self.new, strict=True):
            part.fp32_precision = before


_exact = _Exact()


def _products() -> list[Any]:
    """PyTorch's switches for products in float32."""
    backends: Any = torch.backends
    cudnn, mkldnn = backends.cudnn, backends.mkldnn
    return [backends.cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv]


def _older_switches() -> dict[str, Any]:
    """PyTorch's older switches for the same. It refuses to read one that says something else than
    the present ones; these are left out."""
    found: dict[str, Any] = {}
    with contextlib.suppress(RuntimeError):
        found["convolutions"] = torch.backends.cudnn.allow_tf32
    with contextlib.suppress(RuntimeError):
        found["products"] = torch.get_float32_matmul_precision()
    return found


def _set_older_switches(values: dict[str, Any]) -> None:
    if "convolutions" in values:
        torch.backends.cudnn.allow_tf32 = values["convolutions"]
    if "products" in values:
        torch.set_float32_matmul_precision(values["products"] or "highest")


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """Compute float32 products in float32 inside the block, not in TF32 or bfloat16, whatever
    training or the program around it allows.

    The switches are those of the process: with several threads inside, the first changes them and
    the last restores them. Older and present ones say the same, or a thread that reads an older
    one, as `torch.compile` does, would fail meanwhile.
    """
    with _exact.lock:
        if not _exact.threads:
            _exact.begin()
        _exact.threads += 1
    try:
        yield
    finally:
        with _exact.lock:
            _exact.threads -= 1
            if not _exact.threads:
                _exact.end()


def total_memory(device: torch.device) -> int:
    """The memory of a GPU, or of this machine, in bytes."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@contextlib.contextmanager
def memory_guard(
    what: str = "for the network itself, without a batch",
    remedy: str = "choose a smaller --arch, or free memory that other processes hold (nvidia-smi "
    "lists those on a GPU)",
) -> Iterator[None]:
    """Turn an out-of-memory error, and an operation that --deterministic has not, into a
    `UserError`; `what` needed the memory, and `remedy` says what to change."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise UserError(f"out of memory {what}: {remedy}") from error
    except RuntimeError as error:
        if OUT_OF_MEMORY.search(str(error)):
            raise UserError(f"out of memory {what}: {remedy}") from error
        if "does not have a deterministic implementation" not in str(error):
            raise
        operation = str(error).split()[0]
        raise UserError(
            f"--deterministic: PyTorch has no deterministic {operation}, which this --arch needs: "
            "choose another, or leave the flag out: --seed alone is equal up to rounding"
        ) from error
