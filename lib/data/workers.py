"""Data loading worker processes: how many, how they pass batches to this one, how they end.

A batch goes through shared memory, of which containers often have too little (Docker: 64 MB in
`/dev/shm`); through a pipe then, which is slower.
"""

import contextlib
import errno
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, Protocol

import torch
from torch.utils.data import DataLoader, get_worker_info

from lib.common.console import print_note
from lib.common.errors import UserError
from lib.common.failures import explain, require_open_files
from lib.common.rank_info import rank_info
from lib.data.dataset import Batch, LoadedSample, SampleKey, SplitDataset, collate

MAX_WORKERS = 16  # a rank, unless --workers says more
PREFETCH = 2  # batches that a worker has ready
IN_USE = 2  # batches that the main process holds
# for pipes and the process itself; training's workers live on beside those of validation
FILES_PER_WORKER = 2 * (3 + PREFETCH)
FILES_BESIDE = 32
GRACE_SECONDS = 10  # that a worker lives on after SIGTERM
SHARED_MEMORY = Path("/dev/shm")
REMEDY = "give a container more (--shm-size=8g, or --ipc=host)"


class BatchSampler(Protocol):
    """The batches of a pass over a data set, as keys; a batch has at most `images_per_batch`."""

    @property
    def images_per_batch(self) -> int: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[list[SampleKey]]: ...


class SharedBatch:
    """A batch in shared memory on its way from a worker, pickled there: an error is raised then,
    while the queue between the processes would lose it, and the batch."""

    def __init__(self, batch: Batch) -> None:
        # the inputs alone: each tensor in shared memory takes an open file of both processes
        arrays = batch.apply(torch.Tensor.numpy)
        self.data = bytes(ForkingPickler.dumps(arrays._replace(inputs=batch.inputs)))

    def unpack(self) -> Batch:
        """The batch; only once."""
        try:
            batch = ForkingPickler.loads(self.data)  # of this process's own worker
        except (OSError, EOFError) as error:
            if explain(error):
                raise
            # its worker is gone; in the words of PyTorch, which finds out later
            raise RuntimeError("DataLoader worker of this batch exited unexpectedly") from error
        return batch.apply(torch.as_tensor)

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory, for PyTorch's loader."""
        return self.unpack().apply(torch.Tensor.pin_memory)


def pack(batch: Batch, through_pipe: bool) -> SharedBatch | Batch:
    """What a worker sends: `batch` in shared memory, or, without room and `through_pipe`, one of
    NumPy arrays."""
    if not through_pipe:
        try:
            return SharedBatch(batch)
        except (RuntimeError, OSError):  # no room, or no more open files
            pass
    return batch.apply(torch.Tensor.numpy)


def unpack(packed: SharedBatch | Batch) -> Batch:
    """The batch that a worker, or PyTorch's loader in page-locked memory, has sent."""
    return packed.unpack() if isinstance(packed, SharedBatch) else packed.apply(torch.as_tensor)


class BatchLoader:
    """Reads the `batches` of `dataset`, in `workers` processes (None: one per core, at most
    `MAX_WORKERS`) or in this one (0).

    `persistent` workers live on between passes.
    """

    has_noted = False  # that batches go through pipes
    is_waiting = False  # for a batch
    raise_for_dead_workers: ClassVar[Callable[[int, FrameType | None], Any] | None] = None

    def __init__(
        self,
        dataset: SplitDataset,
        batches: BatchSampler,
        *,
        workers: int | None,
        device: torch.device,
        persistent: bool = False,
    ) -> None:
        workers = min(default_workers() if workers is None else workers, len(batches))
        through_pipe = False
        if workers:
            require_open_files(FILES_BESIDE + workers * FILES_PER_WORKER)
            ready = (workers * PREFETCH + IN_USE) * rank_info().local_world_size
            through_pipe = _is_short(ready * batches.images_per_batch * dataset.sample_bytes)
        with _unwarned():
            self.loader = DataLoader(
                dataset,
                batch_sampler=batches,
                num_workers=workers,
                prefetch_factor=PREFETCH if workers else None,
                collate_fn=partial(_collate, through_pipe=through_pipe),
                persistent_workers=persistent and workers > 0,
                pin_memory=device.type == "cuda",
                worker_init_fn=ignore_signals,
                generator=torch.Generator(),  # or each pass would change the numbers of dropout
            )

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        with _unwarned(), _dead_workers_raise_while_waiting():
            try:
                batches = iter(self.loader)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                raise UserError(
                    f"{SHARED_MEMORY} is full, the data loading workers cannot start: {REMEDY}, or "
                    "pass --workers 0"
                ) from error
        while (batch := self._next(batches)) is not None:
            yield unpack(batch)

    @classmethod
    def _next(cls, batches: Iterator[SharedBatch | Batch]) -> SharedBatch | Batch | None:
        cls.is_waiting = True
        try:
            if cls.raise_for_dead_workers:  # one may have died since
                cls.raise_for_dead_workers(signal.SIGCHLD, None)
            return next(batches, None)
        finally:
            cls.is_waiting = False


@contextlib.contextmanager
def _unwarned() -> Iterator[None]:
    """Without PyTorch's warning of more workers than cores, which --workers has chosen."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        yield


@contextlib.contextmanager
def _dead_workers_raise_while_waiting() -> Iterator[None]:
    """Let the handler of SIGCHLD of PyTorch's loader, which it sets once, raise its error while a
    batch is waited for, and not while a step or a file is half done."""
    previous = signal.getsignal(signal.SIGCHLD)
    yield
    handler = signal.getsignal(signal.SIGCHLD)
    if handler != previous and callable(handler):
        BatchLoader.raise_for_dead_workers = staticmethod(handler)
        signal.signal(signal.SIGCHLD, _on_dead_child)


def _on_dead_child(signum: int, frame: FrameType | None) -> None:
    if BatchLoader.is_waiting and BatchLoader.raise_for_dead_workers:
        BatchLoader.raise_for_dead_workers(signum, frame)


def _collate(samples: Sequence[LoadedSample], through_pipe: bool) -> SharedBatch | Batch:
    batch = collate(samples)
    return batch if get_worker_info() is None else pack(batch, through_pipe)


def _is_short(needed: int) -> bool:
    """Whether shared memory has too little room for `needed` bytes; says so once."""
    if not SHARED_MEMORY.is_dir():  # macOS: no such limit
        return False
    system = os.statvfs(SHARED_MEMORY)
    free = system.f_bavail * system.f_frsize
    if needed > free and not BatchLoader.has_noted:
        BatchLoader.has_noted = True
        print_note(
            f"{SHARED_MEMORY} has {free / 2**20:.3g} MB free, the batches of the data loading "
            f"workers need {needed / 2**20:.3g} MB: they go through pipes, which is slower; "
            f"{REMEDY}, or lower --workers"
        )
    return needed > free


def ignore_signals(worker: int) -> None:
    """Let a worker serve the step that the main process finishes after a signal to the group.

    The main process may end workers with SIGTERM too, and waits for them: they exit some seconds
    later.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda signum, frame: signal.alarm(GRACE_SECONDS))
    signal.signal(signal.SIGALRM, lambda signum, frame: os._exit(0))


def machine_cores() -> int:
    """Cores of this machine that its processes may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_cores() -> int:
    """Cores for this process, where the ranks of a machine divide them."""
    return max(1, machine_cores() // rank_info().local_world_size)


def default_workers() -> int:
    """Workers of a rank where --workers does not say: one per core, at most `MAX_WORKERS`."""
    return min(available_cores(), MAX_WORKERS)
