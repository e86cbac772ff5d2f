"""The ranks of a run and what they exchange: reductions, broadcasts, and errors of all ranks.

A process without a launcher is a world of one rank, in which every exchange returns at once.
"""

import contextlib
import inspect
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from lib.common.errors import UserError
from lib.common.rank_info import rank_info

# whether each forward copies rank 0's buffers to the others; renamed in PyTorch 2.15
BUFFER_OPTION = "forward_sync_buffers"
if BUFFER_OPTION not in inspect.signature(DistributedDataParallel).parameters:
    BUFFER_OPTION = "broadcast_buffers"
T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)


class RaisedOnAllRanks(UserError):
    """An error that all ranks raise because one of them raised it; the main process prints it."""


class World:
    """The ranks of a run, one of which this process is; `device` is where it computes.

    Several ranks share a `store`; `kept` is that of their launcher, which outlives them.
    """

    def __init__(
        self,
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
        store: dist.Store | None = None,
        kept: dist.Store | None = None,
    ) -> None:
        self.device, self.rank, self.world_size = device, rank, world_size
        self.store, self.kept = store, kept
        self.waits = 0

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes the files and prints the lines."""
        return self.rank == 0

    def sum(self, *numbers: int) -> list[int]:
        """Each of `numbers`, summed over the ranks."""
        if not self.store:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.int64)
        dist.all_reduce(values)
        return values.tolist()

    def sum_(self, tensor: Tensor) -> Tensor:
        """Sum `tensor`, numbers of any shape, over the ranks, in place; returns it."""
        if self.store:
            dist.all_reduce(tensor)
        return tensor

    def merge_(self, *arrays: np.ndarray) -> None:
        """Fill the rows of `arrays` (R, ...), numbers but no bool, that other ranks have set; each
        row is 0 on all ranks but one."""
        for array in arrays:
            self.sum_(torch.from_numpy(array))

    def gather(self, value: T) -> list[T]:
        """`value` of every rank, in rank order."""
        if not self.store:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def broadcast_from_main(self, make: Callable[[], T]) -> T:
        """What the main process makes, for all ranks; its `UserError` is raised on all of them."""
        with self.raise_on_all_ranks():
            values: list[Any] = [make() if self.is_main_process else None]
        if self.store:
            dist.broadcast_object_list(values)
        return values[0]

    @contextlib.contextmanager
    def raise_on_all_ranks(self) -> Iterator[None]:
        """Raise a `UserError` of any rank inside the block on all ranks."""
        error = None
        try:
            yield
        except UserError as raised:
            error = raised
        texts = [text for text in self.gather(error and str(error)) if text is not None]
        if texts:
            raise RaisedOnAllRanks(texts[0]) from error

    def once_per_machine(self, make: Callable[[], T]) -> T:
        """What `make` returns in this process, which writes a file where it is missing. The first
        process of each machine calls it alone; the others wait for as long as it takes, not for
        `--timeout` only. Its `UserError` is raised on all ranks."""
        is_first, error = rank_info().local_rank == 0, None
        made: list[T] = []
        (machines,) = self.sum(int(is_first))
        self.waits += 1
        name = f"wait {self.waits}"
        try:
            if is_first:
                made.append(make())
        except UserError as raised:
            error = raised
        finally:
            if self.store:
                self.store.add(name, int(is_first))
        # not in a collective operation, which has a timeout
        while self.store and self.store.add(name, 0) < machines:
            time.sleep(0.2)
        with self.raise_on_all_ranks():
            if error:
                raise error
        with self.raise_on_all_ranks():
            if not made:
                made.append(make())
        return made[0]

    def store_set(self, name: str, text: str) -> None:
        """Keep `text` for the processes that the launcher restarts after a failure."""
        if self.kept:
            self.kept.set(name, text)

    def store_get(self, name: str) -> str | None:
        """What the processes before a restart have kept under `name`."""
        if not self.kept or not self.kept.check([name]):
            return None
        return self.kept.get(name).decode()

    def wrap_ddp(self, model: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
        """`model` in DistributedDataParallel, which averages gradients over the ranks.

        `input_shape` is that of one image, or of its tokens.
        """
        if not self.store:
            return model
        example = torch.zeros(1, *input_shape, device=self.device)
        options: dict[str, Any] = {BUFFER_OPTION: False}
        return DistributedDataParallel(
            model,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            **options,
            find_unused_parameters=has_unused_parameters(model, example),
            gradient_as_bucket_view=True,
        )

    def convert_sync_bn(self, model: M) -> M:
        """`model` with SyncBatchNorm, where PyTorch has it: several ranks on CUDA."""
        if self.world_size == 1 or self.device.type != "cuda":
            return model
        from timm.layers import convert_sync_batchnorm  # knows timm's norms with activations

        return convert_sync_batchnorm(model)

    @torch.no_grad()
    def average_bn_statistics(self, model: nn.Module, images: int) -> None:
        """Make running statistics without SyncBatchNorm equal on all ranks.

        They become the mean over the ranks, weighted by the `images` that each has seen.
        """
        if self.world_size == 1:
            return
        running = [
            statistic
            for module in model.modules()
            if isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm)
            if module.training  # those of a frozen backbone must not change by a bit
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


def has_unused_parameters(model: nn.Module, inputs: Tensor) -> bool:
    """Whether some parameters get no gradient, as those of a backbone's layer that is not used.

    If there are any, DistributedDataParallel must search for them in every step.
    """
    training = model.training
    # not by a call, which would compile a compiled network for this one image
    outputs = model.eval().forward(inputs)
    sum(output.sum() for output in outputs if output is not None).backward()
    found = any(p.grad is None for p in model.parameters() if p.requires_grad)
    model.zero_grad(set_to_none=True)
    model.train(training)
    return found


def maybe_no_sync(model: nn.Module, active: bool) -> contextlib.AbstractContextManager:
    """Do not average the gradients of a backward inside the block, if `active` and on several
    ranks: a later backward averages their sum."""
    if active and isinstance(model, DistributedDataParallel):
        return model.no_sync()
    return contextlib.nullcontext()
