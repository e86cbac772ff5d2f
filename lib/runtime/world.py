"""The processes of a run: how they start, what they exchange, and how they end together.

`World` is what the rest of the project sees of them. A process without a launcher is a world of
its own, in which every exchange is free and changes nothing.
"""

import contextlib
import inspect
import logging
import os
import re
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from lib.common.errors import UserError
from lib.common.rank_info import VARIABLES, is_launched, rank_info, restart_count
from lib.runtime.device import select_device

TIMEOUT = 600  # seconds
# whether each forward copies the first process's buffers to the others; renamed in PyTorch 2.15
BUFFER_OPTION = "forward_sync_buffers"
if BUFFER_OPTION not in inspect.signature(DistributedDataParallel).parameters:
    BUFFER_OPTION = "broadcast_buffers"
T = TypeVar("T")


class RaisedOnAllRanks(UserError):
    """An error that all processes raise, because one of them met it; the first one prints it."""


class World:
    """The processes of a run, one of which this is; `device` is where this one computes."""

    def __init__(
        self,
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
        store: dist.Store | None = None,
    ) -> None:
        self.device, self.rank, self.world_size, self.store = device, rank, world_size, store

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes the files and prints the lines."""
        return self.rank == 0

    def sum(self, *numbers: int) -> list[int]:
        """Each of `numbers`, summed over the processes."""
        if not self.store:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.int64)
        dist.all_reduce(values)
        return values.tolist()

    def sum_(self, tensor: Tensor) -> Tensor:
        """Sum `tensor` over the processes, in place."""
        if self.store:
            dist.all_reduce(tensor)
        return tensor

    def merge_(self, *arrays: np.ndarray) -> None:
        """Fill rows that other processes have set; each row is 0 in all processes but one."""
        for array in arrays:
            self.sum_(torch.from_numpy(array))

    def gather(self, value: T) -> list[T]:
        """`value` of every process, in the order of their ranks."""
        if not self.store:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def broadcast_from_main(self, make: Callable[[], T]) -> T:
        """What the first process makes, for all; where it fails with a `UserError`, all do."""
        with self.raise_on_all_ranks():
            values = [make() if self.is_main_process else None]
        if self.store:
            dist.broadcast_object_list(values)
        return values[0]  # type: ignore[return-value]

    @contextlib.contextmanager
    def raise_on_all_ranks(self) -> Iterator[None]:
        """A `UserError` of any process inside becomes that of all, and the first one prints it."""
        error = None
        try:
            yield
        except UserError as raised:
            error = raised
        told = [text for text in self.gather(error and str(error)) if text is not None]
        if told:
            raise RaisedOnAllRanks(told[0]) from error

    def store_set(self, name: str, text: str) -> None:
        """Keep `text` for the processes that the launcher starts anew after a failure."""
        if self.store:
            self.store.set(name, text)

    def store_get(self, name: str) -> str | None:
        """What an earlier attempt of the same launch has kept."""
        if not self.store or not self.store.check([name]):
            return None
        return self.store.get(name).decode()

    def wrap_ddp(self, model: nn.Module, image_size: int) -> nn.Module:
        """`model`, with its gradients averaged over the processes in the backward."""
        if not self.store:
            return model
        image = torch.zeros(1, 3, image_size, image_size, device=self.device)
        return DistributedDataParallel(
            model,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            **{BUFFER_OPTION: False},
            find_unused_parameters=has_unused_parameters(model, image),
            gradient_as_bucket_view=True,
        )

    def convert_sync_bn(self, model: nn.Module) -> nn.Module:
        """`model` with batch statistics over all processes, where PyTorch can: on CUDA."""
        if self.world_size == 1 or self.device.type != "cuda":
            return model
        from timm.layers import convert_sync_batchnorm  # knows timm's norms with activations

        return convert_sync_batchnorm(model)

    @torch.no_grad()
    def average_bn_statistics(self, model: nn.Module, images: int) -> None:
        """Make running statistics that are not synchronised the same everywhere.

        They become the mean over the processes, weighted by the `images` that each has seen.
        """
        if self.world_size == 1:
            return
        running = [
            statistic
            for module in model.modules()
            if isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm)
            if module.training  # those of a frozen backbone stay as they are, to the bit
            for statistic in (module.running_mean, module.running_var)
            if statistic is not None
        ]
        if not running:
            return
        flat = torch.cat([statistic.flatten() for statistic in running]) * images
        flat = torch.cat([flat, flat.new_tensor([images])])
        self.sum_(flat)
        parts = (flat[:-1] / flat[-1]).split([statistic.numel() for statistic in running])
        for statistic, mean in zip(running, parts, strict=True):
            statistic.copy_(mean.view_as(statistic))


def has_unused_parameters(model: nn.Module, images: Tensor) -> bool:
    """Whether some parameters get no gradient, as those of a backbone's layer that is not used.

    PyTorch searches for them in every step, where it is told that there are any.
    """
    training = model.training
    sum(output.sum() for output in model.eval()(images)).backward()
    found = any(p.grad is None for p in model.parameters() if p.requires_grad)
    model.zero_grad(set_to_none=True)
    model.train(training)
    return found


def maybe_no_sync(network: nn.Module, hold: bool) -> contextlib.AbstractContextManager:
    """Keep the gradients of a backward to this process, for a later one to average them all."""
    if hold and isinstance(network, DistributedDataParallel):
        return network.no_sync()
    return contextlib.nullcontext()


@contextlib.contextmanager
def session(device_name: str, timeout: int = TIMEOUT) -> Iterator[World]:
    """Meet the other processes of the run, if a launcher started this one, and part at the end.

    `timeout` is how many seconds a process that does not answer is waited for. An error of this
    process alone is printed by it, and those that lose contact by it keep silent.
    """
    here = rank_info()
    device = select_device(device_name, here.local_rank)
    if not is_launched():
        yield World(device)
        return
    threading.Thread(target=_end_with_launcher, args=(os.getppid(),), daemon=True).start()
    store = _meet(device, timeout)
    try:
        yield World(device, here.rank, here.world_size, store)
    except RaisedOnAllRanks as error:
        error.printed_by = "this" if here.rank == 0 else "another"
        dist.destroy_process_group()
        raise
    except BaseException as error:
        speaker = _speaker(store)
        if device.type != "cuda":  # NCCL may wait for the others, which do not part now
            dist.destroy_process_group()
        if isinstance(error, UserError):
            error.printed_by = speaker
        elif isinstance(error, RuntimeError) and _is_lost_contact(error):
            lost = UserError(
                f"process {here.rank} of {here.world_size} lost contact with another one, which "
                "was killed or does not answer: see its own messages, and go on with --resume"
            )
            lost.printed_by = speaker
            raise lost from error
        raise
    dist.destroy_process_group()


def processes_to_start(device_name: str) -> int:
    """How many processes this machine's GPUs ask for, where no launcher has decided it; or 0."""
    if is_launched() or device_name not in ("auto", "cuda") or not torch.cuda.is_available():
        return 0
    count = torch.cuda.device_count()
    return count if count > 1 else 0


def start_processes(count: int) -> NoReturn:
    """Run this command in `count` processes of this machine; leave with what they leave with."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # the processes say what went wrong themselves
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL + 1)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)(*sys.argv)
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        sys.exit(code if code > 0 else 128 - code)
    except SignalException as error:
        sys.exit(128 + error.sigval)
    sys.exit(0)


def _meet(device: torch.device, timeout: int) -> dist.Store:
    """Join the process group; gives the store that the processes share."""
    here, patience = rank_info(), timedelta(seconds=timeout)
    shared_gpus = device.type == "cuda" and here.local_world_size > torch.cuda.device_count()
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" and not shared_gpus else "gloo"
    try:
        store, rank, size = next(dist.rendezvous("env://", timeout=patience))
        # a launcher that starts the processes anew keeps the store, with the former ones' addresses
        own = dist.PrefixStore(f"attempt {restart_count()}", store)
        dist.init_process_group(backend, store=own, rank=rank, world_size=size, timeout=patience)
    except (dist.DistError, RuntimeError, ValueError) as error:
        address = ":".join(os.environ[name] for name in VARIABLES[4:])
        raise UserError(
            f"process {here.rank} of {here.world_size}: no rendezvous with the others at {address} "
            f"within {timeout} s: check the address, the number of processes, and that all run"
        ) from error
    return store


def _end_with_launcher(launcher: int) -> None:
    """Ask this process to stop once its launcher is gone, which could not end it any more."""
    while os.getppid() == launcher:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def _is_lost_contact(error: RuntimeError) -> bool:
    if isinstance(error, dist.DistError):
        return True
    return bool(re.search(r"gloo|nccl|connection (closed|reset|refused)", str(error), re.I))


def _speaker(store: dist.Store) -> str:
    """Who prints why the run ends: the first process that asks for it."""
    try:
        return "this" if store.add(f"told {restart_count()}", 1) == 1 else "another"
    except RuntimeError:  # the process that kept the store is gone
        return "this"
