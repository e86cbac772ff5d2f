"""Runs a command on a GPU that is not there: tensors that say `cuda:0`, or the number of another
GPU, and hold their numbers on the CPU.

An operation on tensors of both devices fails as on a GPU, and autocast follows CUDA's rules; the
numbers are the CPU's. So whole commands run with `--device cuda`, and their scores can be compared
with those of `--device cpu`. It cannot show CUDA's own kernels, memory, speed and `--compile`.

    python tests/helpers/fake_gpu.py [--float16] train.py --device cuda ...
    python tests/helpers/fake_gpu.py --gpu 1 evaluate.py --device cuda:1 ...

Backward passes need the first GPU. `FAKE_GPU_HOOKS` names the library that `build_hooks` has made.
"""

import argparse
import contextlib
import ctypes
import os
import runpy
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

ROOT = Path(__file__).resolve().parents[2]
HOOKS = "FAKE_GPU_HOOKS"  # environment variable: the library of `build_hooks`
aten: Any = torch.ops.aten

# Autograd asks an object of PyTorch's whether a GPU is in use, and that asks the driver: another
# object takes its place.
HOOKS_SOURCE = """
#include <ATen/detail/CUDAHooksInterface.h>
#include <new>

struct FakeHooks : at::CUDAHooksInterface {
  bool isBuilt() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return false; }
};

extern "C" void install() {
  new (const_cast<at::CUDAHooksInterface*>(&at::detail::getCUDAHooks())) FakeHooks();
}
"""
# operations that may have tensors of both devices
OF_BOTH_DEVICES = {"aten::copy_", "aten::index", "aten::index_put_"}


def build_hooks(folder: Path) -> Path:
    """The library that a process needs for backward passes. Raises `OSError` without g++, and
    `CalledProcessError` where PyTorch's headers do not fit."""
    source, library = folder / "hooks.cpp", folder / "hooks.so"
    source.write_text(HOOKS_SOURCE)
    own = Path(torch.__file__).parent
    options = ("-std=c++20", "-shared", "-fPIC", f"-I{own}/include", f"-L{own}/lib")
    command = ["g++", *options, source, "-o", library, "-ltorch_cpu", "-lc10"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return library


class GpuTensor(Tensor):
    """A tensor on the GPU, whose numbers are those of `held`, a tensor on the CPU."""

    held: Tensor
    gpu = torch.device("cuda", 0)
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> "GpuTensor":
        assert type(held) is Tensor and held.device.type == "cpu", (type(held), held.device)
        made = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=cls.gpu,
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return compute(operation, args, kwargs or {})

    def __reduce_ex__(self, protocol):  # for torch.save
        return self.held.__reduce_ex__(protocol)


class OnFakeGpu(TorchDispatchMode):
    """Operations that name the GPU as their device, too."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return compute(operation, args, kwargs or {})


def compute(operation: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The results of an operation, on the GPU where its tensors are, or where it names that."""
    name, device = operation._schema.name, kwargs.get("device")
    tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
    on_gpu = [one for one in tensors if isinstance(one, GpuTensor)]
    asked = device is not None and torch.device(device).type == "cuda"
    if asked and _number(device) != GpuTensor.gpu.index:
        raise RuntimeError(f"a tensor on cuda:{_number(device)}, not on {GpuTensor.gpu}")
    if not on_gpu and not asked:
        return operation(*args, **kwargs)
    if torch._C._dispatch_has_kernel_for_dispatch_key(
        operation.name(), "CompositeImplicitAutograd"
    ):  # in inference mode
        with OnFakeGpu():
            return operation.decompose(*args, **kwargs)
    on_cpu = [one for one in tensors if one.dim() and not isinstance(one, GpuTensor)]
    if on_gpu and on_cpu and name not in OF_BOTH_DEVICES:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"{GpuTensor.gpu} and cpu ({name})"
        )
    to_gpu = asked or (bool(on_gpu) and device is None)
    if name == "aten::copy_":
        to_gpu = isinstance(args[0], GpuTensor)
    known = {id(one.held): one for one in on_gpu}
    own_args, own_kwargs = tree_map_only(GpuTensor, lambda one: one.held, (args, kwargs))
    if device is not None:
        own_kwargs["device"] = torch.device("cpu")
    with torch._C._DisableTorchDispatch():
        found = KERNELS.get(name, operation)(*own_args, **own_kwargs)
        if torch.Tag.inplace_view in operation.tags:  # the shape of the tensor outside, too
            operation(*args, **kwargs)

    ordinary = operation.is_view and not any(one.is_inference() for one in on_gpu)

    def outside(tensor: Tensor) -> Tensor:
        if id(tensor) in known:
            return known[id(tensor)]
        # inference mode leaves views of ordinary tensors ordinary
        with torch.inference_mode(torch.is_inference_mode_enabled() and not ordinary):
            return GpuTensor(tensor) if to_gpu else tensor

    return tree_map_only(Tensor, outside, found)


def _number(device: Any) -> int:
    """The number of a GPU, which is the present one where it has none."""
    index = torch.device(device).index
    return torch.cuda.current_device() if index is None else index


def _softmax(inputs, dim, half_to_float):
    return torch._softmax(inputs.float() if half_to_float else inputs, dim, False)


def _softmax_backward(gradient, output, dim, dtype):
    return aten._softmax_backward_data(gradient, output, dim, gradient.dtype).to(dtype)


def _channels(values: Tensor, like: Tensor) -> Tensor:
    return values.view([1, -1] + [1] * (like.dim() - 2))


def _all_but_channels(tensor: Tensor) -> list[int]:
    return [0, *range(2, tensor.dim())]


def _statistics(inputs, eps):
    dims = _all_but_channels(inputs)
    variance, mean = torch.var_mean(inputs.float(), dims, correction=0)
    return mean, (variance + eps).rsqrt()


def _gathered_statistics(inputs, means, invstds, running_mean, running_var, momentum, eps, counts):
    counts = counts.view(-1, 1)
    count, mean = counts.sum(), (means * counts).sum(0) / counts.sum()
    squares = invstds**-2 - eps + (means - mean) ** 2
    variance = (squares * counts).sum(0) / count
    running_mean.lerp_(mean, momentum)
    running_var.lerp_(variance * count / (count - 1), momentum)
    return mean, (variance + eps).rsqrt()


def _normalize(inputs, weight, bias, mean, invstd, eps):
    mean, scale, bias = (_channels(one, inputs) for one in (mean, invstd * weight, bias))
    return ((inputs.float() - mean) * scale + bias).to(inputs.dtype)


def _normalize_reductions(gradient, inputs, mean, invstd, weight, *wanted):
    dims, gradient = _all_but_channels(inputs), gradient.float()
    total = gradient.sum(dims)
    product = (gradient * (inputs.float() - _channels(mean, inputs))).sum(dims)
    return total, product, product * invstd, total.clone()


def _normalize_backward(gradient, inputs, mean, invstd, weight, total, product, counts):
    count = counts.sum()
    mean, scale, total, product = (
        _channels(one, inputs)
        for one in (mean, invstd * weight, total / count, invstd**2 * product / count)
    )
    changed = gradient.float() - total - (inputs.float() - mean) * product
    return (changed * scale).to(inputs.dtype)


# what the CPU lacks, by its arithmetic
KERNELS: dict[str, Callable[..., Any]] = {
    "aten::_softmax": _softmax,
    "aten::_softmax_backward_data": _softmax_backward,
    "aten::batch_norm_stats": _statistics,
    "aten::batch_norm_gather_stats_with_counts": _gathered_statistics,
    "aten::batch_norm_elemt": _normalize,
    "aten::batch_norm_backward_reduce": _normalize_reductions,
    "aten::batch_norm_backward_elemt": _normalize_backward,
}


class AveragedGradients(nn.Module):
    """In place of DistributedDataParallel, whose reducer copies gradients into buckets in C++."""

    def __init__(self, module: nn.Module, device_ids: list[torch.device], **options: bool) -> None:
        super().__init__()
        self.module, self.averages = module, True
        assert all(one.device == device_ids[0] for one in module.state_dict().values())
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(self._average)

    def forward(self, *inputs: Tensor) -> Any:
        return self.module(*inputs)

    @contextlib.contextmanager
    def no_sync(self) -> Iterator[None]:
        self.averages = False
        yield
        self.averages = True

    def _average(self, parameter: Tensor) -> None:
        if self.averages and parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= dist.get_world_size()


def _attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None):
    """In place of PyTorch's, which asks the driver for the best kernel."""
    assert query.device == key.device == value.device and attn_mask is None and not is_causal
    weights = torch.softmax(query @ key.mT * (scale or query.shape[-1] ** -0.5), dim=-1)
    return nn.functional.dropout(weights, dropout_p) @ value


def install(gpu: int = 0, bfloat16: bool = True) -> None:
    """For the rest of the process: GPUs up to number `gpu`, on which alone tensors may be, with
    bfloat16 or with float16 alone. The first is the present one."""
    from lib.runtime import world

    ctypes.CDLL(os.environ[HOOKS]).install()
    torch._C._ensureCUDADeviceGuardSet()
    GpuTensor.gpu = torch.device("cuda", gpu)
    present = [0]
    torch.cuda.current_device = lambda: present[0]
    torch.cuda.set_device = lambda device: present.__setitem__(0, _number(device))
    answers = {
        "is_available": True,
        "device_count": gpu + 1,
        "get_device_capability": (9, 0) if bfloat16 else (7, 5),
        "get_device_properties": types.SimpleNamespace(total_memory=2**36),
        "get_arch_list": ["sm_75", "sm_90"],
        "is_bf16_supported": bfloat16,
        "is_current_stream_capturing": False,
        "get_rng_state": torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": None,
        "manual_seed_all": None,
        "_lazy_init": None,
    }
    for name, answer in answers.items():
        setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    torch.accelerator.is_available = lambda: True
    torch.accelerator.current_device_index = torch.cuda.current_device
    torch.Tensor.pin_memory = lambda tensor: tensor
    nn.functional.scaled_dot_product_attention = _attention
    world.DistributedDataParallel = AveragedGradients
    # a parameter that moves is a new one: the present one cannot change its class
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    torch._C._set_only_lift_cpu_tensors(True)  # for torch.tensor(..., device="cuda")


def run_command(*command: str) -> None:
    """Run a script of the project, to its end, once the GPUs are installed."""
    sys.argv = list(command)
    with OnFakeGpu():
        runpy.run_path(str(ROOT / command[0]), run_name="__main__")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    parser = argparse.ArgumentParser()
    parser.add_argument("--gpu", type=int, default=0)
    parser.add_argument("--float16", action="store_true")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    install(arguments.gpu, not arguments.float16)
    run_command(*arguments.command)
