"""How batches travel: from samples in worker processes to tensors in this one.

A batch goes through shared memory, of which containers often have too little (Docker: 64 MB in
`/dev/shm`); through a pipe then, which is slower.

Shapes: B images, C labels, S image side, P + N tokens, D features.
"""

import contextlib
import errno
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, get_worker_info

from lib.common.console import print_note
from lib.common.errors import UserError
from lib.common.failures import explain
from lib.data.dataset import Sample, SampleKey, SplitDataset, Unreadable
from lib.runtime.cores import available_cores

MAX_WORKERS = 16  # a rank, unless --workers says more
PREFETCH = 2  # batches that a worker has ready
GRACE_SECONDS = 10  # that a worker lives on after SIGTERM
SHARED_MEMORY = Path("/dev/shm")
REMEDY = "give a container more (--shm-size=8g, or --ipc=host)"


class Batch(NamedTuple):
    """`inputs`, `targets` uint8 (B, C), `ignore` bool (B, C), `rows` (B,).

    `inputs` are pixels, uint8 (B, 3, S, S), or features of a frozen backbone, float32
    (B, P + N, D). `rows` are those of the split, -1 for padding. `errors` lists the images that
    could not be read; padding takes their places.
    """

    inputs: Tensor
    targets: Tensor
    ignore: Tensor
    rows: Tensor
    errors: list[Unreadable]

    def micro_batches(self, number: int) -> "list[Batch]":
        """`number` batches of about the same size, the larger ones first."""
        parts = zip(*(torch.tensor_split(tensor, number) for tensor in self[:-1]), strict=True)
        return [Batch._make((*part, self.errors)) for part in parts]

    def without_padding(self) -> "Batch":
        """The rows that are images."""
        kept = self.rows >= 0
        return self.apply(lambda tensor: tensor[kept])

    def apply(self, function: Callable[[Any], Any]) -> "Batch":
        """With `function` of each tensor."""
        return Batch._make((*map(function, self[:-1]), self.errors))


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples into a `Batch`.

    The inputs of readable images replace those of unreadable ones, so that batch statistics come
    from real images.
    """
    inputs, targets, ignore, rows, errors = zip(*samples, strict=True)
    read = [one for one, error in zip(inputs, errors, strict=True) if not error] or inputs
    inputs = [read[place % len(read)] if errors[place] else one for place, one in enumerate(inputs)]
    return Batch(
        torch.from_numpy(np.stack(inputs)),
        torch.from_numpy(np.stack(targets)),
        torch.from_numpy(np.stack(ignore)),
        torch.tensor(rows),
        [error for error in errors if error],
    )


class PackedBatch:
    """A batch on its way from a worker, pickled there: an error is raised then, while the queue
    between the processes would lose it, and the batch.

    A label takes a bit on this way: a byte for each of thousands, in buffers of many sizes, makes
    the memory of every process grow by hundreds of megabytes.
    """

    noted = False  # that batches go through a pipe

    def __init__(self, batch: Batch) -> None:
        arrays = batch.apply(Tensor.numpy)
        self.num_labels = batch.targets.shape[1]
        bits = (np.packbits(marks, axis=1) for marks in (arrays.targets, arrays.ignore))
        packed: Any = dict(zip(("targets", "ignore"), bits, strict=True))
        arrays = arrays._replace(**packed)
        self.in_pipe = not _has_room(2 * batch.inputs.nbytes)
        if not self.in_pipe:
            try:
                # the inputs alone: each tensor there takes an open file of both processes
                self.data = bytes(ForkingPickler.dumps(arrays._replace(inputs=batch.inputs)))
                return
            except (RuntimeError, OSError):  # no room after all, or no more open files
                self.in_pipe = True
        self.data = bytes(ForkingPickler.dumps(arrays))

    def unpack(self) -> Batch:
        """The batch; only once."""
        if self.in_pipe and not PackedBatch.noted:
            PackedBatch.noted = True
            print_note(
                f"{SHARED_MEMORY} has too little room for the batches of the data loading workers: "
                f"they go through pipes, which is slower; {REMEDY}, or lower --workers"
            )
        try:
            batch = ForkingPickler.loads(self.data)  # of this process's own worker
        except (OSError, EOFError) as error:
            if explain(error):
                raise
            # its worker is gone; in the words of PyTorch, which finds out later
            raise RuntimeError("DataLoader worker of this batch exited unexpectedly") from error
        targets, ignore = (
            np.unpackbits(bits, axis=1, count=self.num_labels)
            for bits in (batch.targets, batch.ignore)
        )
        return batch._replace(targets=targets, ignore=ignore.view(bool)).apply(torch.as_tensor)

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory, for PyTorch's loader."""
        return self.unpack().apply(Tensor.pin_memory)


def _has_room(size: int) -> bool:
    """Whether shared memory has `size` bytes; it has no such limit on macOS."""
    if not SHARED_MEMORY.is_dir():
        return True
    system = os.statvfs(SHARED_MEMORY)
    return size <= system.f_bavail * system.f_frsize


def _collate_in_worker(samples: Sequence[Sample]) -> PackedBatch | Batch:
    batch = collate(samples)
    return batch if get_worker_info() is None else PackedBatch(batch)


class BatchLoader:
    """Reads the `batches` of `dataset`, lists of keys, in `workers` processes (None: one per core,
    at most `MAX_WORKERS`) or in this one (0). `persistent` workers live on between passes."""

    is_waiting = False  # for a batch

    def __init__(
        self,
        dataset: SplitDataset,
        batches: Sampler[list[SampleKey]],
        *,
        workers: int | None,
        device: torch.device,
        persistent: bool = False,
    ) -> None:
        number = len(batches)  # type: ignore[arg-type]
        workers = min(default_workers() if workers is None else workers, number)
        source: Any = dataset
        with _unwarned():
            self.loader = DataLoader(
                source,
                batch_sampler=batches,
                num_workers=workers,
                prefetch_factor=PREFETCH if workers else None,
                collate_fn=_collate_in_worker,
                persistent_workers=persistent and workers > 0,
                pin_memory=device.type == "cuda",
                worker_init_fn=ignore_signals,
                generator=torch.Generator(),  # or each pass would change the numbers of dropout
            )

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        with _unwarned():
            try:
                batches = iter(self.loader)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                raise UserError(
                    f"{SHARED_MEMORY} is full, the data loading workers cannot start: {REMEDY}, or "
                    "pass --workers 0"
                ) from error
        _raise_for_dead_workers_while_waiting()
        while (batch := self._next(batches)) is not None:
            yield batch.unpack() if isinstance(batch, PackedBatch) else batch

    @staticmethod
    def _next(batches: Iterator[PackedBatch | Batch]) -> PackedBatch | Batch | None:
        BatchLoader.is_waiting = True
        try:
            signal.raise_signal(signal.SIGCHLD)  # a worker may have died since
            return next(batches, None)
        finally:
            BatchLoader.is_waiting = False


def _raise_for_dead_workers_while_waiting() -> None:
    """Let PyTorch's handler of SIGCHLD raise for a dead worker only while a batch is waited for: it
    would raise anywhere, also while the first error is reported."""
    handler = signal.getsignal(signal.SIGCHLD)
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and callable(handler) and not hasattr(handler, "pytorchs"):

        def guarded(signum: int, frame: FrameType | None) -> None:
            if BatchLoader.is_waiting:
                handler(signum, frame)

        guarded.pytorchs = handler  # type: ignore[attr-defined]
        signal.signal(signal.SIGCHLD, guarded)


@contextlib.contextmanager
def _unwarned() -> Iterator[None]:
    """Without PyTorch's warning of more workers than cores, which --workers has chosen."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        yield


def ignore_signals(worker: int) -> None:
    """Let a worker serve the step that the main process finishes after a signal to the group.

    The main process may end workers with SIGTERM too, and waits for them: they exit some seconds
    later.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda signum, frame: signal.alarm(GRACE_SECONDS))
    signal.signal(signal.SIGALRM, lambda signum, frame: os._exit(0))


def default_workers() -> int:
    """Workers of a rank where --workers does not say: one per core, at most `MAX_WORKERS`."""
    return min(available_cores(), MAX_WORKERS)
