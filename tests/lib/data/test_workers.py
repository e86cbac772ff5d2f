"""Worker processes: the batches that come from them, their number, and how they end."""

import signal
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data._utils.pin_memory import pin_memory

from lib.data import workers as module
from lib.data.dataset import ImageDataset, SampleKey
from lib.data.loader import EvaluationBatches, TrainingBatches
from lib.data.workers import Batch, PackedBatch, default_workers
from tests.helpers.commands import error_line, run
from tests.helpers.refusals import refused
from tests.lib.data.conftest import read_batches


def images(split, seed=4):
    return ImageDataset(split, 16, "upright", augment="published", seed=seed)


def load(split, workers, epoch, seed=4):
    batches = TrainingBatches(len(split), 3, seed=seed)
    batches.start(epoch)
    loader = read_batches(images(split, seed), batches, workers)
    found = list(loader)
    rows = torch.cat([batch.rows for batch in found])
    pixels = torch.cat([batch.inputs for batch in found])
    return rows, pixels


def test_draws_depend_on_seed_epoch_and_index_alone(split):
    index, pixels = load(split, 0, 1)
    other_index, other_pixels = load(split, 2, 1)
    assert torch.equal(index, other_index) and torch.equal(pixels, other_pixels)
    place = index.tolist().index(5)
    assert (images(split)[SampleKey(1, 5)].inputs == pixels[place].numpy()).all()
    for epoch, seed in ((2, 4), (1, 5)):
        changed_index, changed_pixels = load(split, 0, epoch, seed)
        assert not torch.equal(index, changed_index)
        order = [changed_index.tolist().index(i) for i in index.tolist()]
        assert not torch.equal(pixels, changed_pixels[order])


def test_persistent_workers_follow_the_epoch(split):
    batches = TrainingBatches(len(split), 3, seed=4)
    loader = read_batches(images(split), batches, 2, persistent=True)
    for epoch in (0, 1):
        batches.start(epoch)
        pixels = torch.cat([batch.inputs for batch in loader])
        assert torch.equal(pixels, load(split, 0, epoch)[1])


def test_a_process_without_images_has_no_batches(split):
    dataset = ImageDataset(split, 8, "upright")
    batches = EvaluationBatches(7, 4, rank=2, world_size=3)
    assert list(read_batches(dataset, batches, 2)) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_draws_no_random_numbers_of_the_run(split, workers):
    dataset = ImageDataset(split, 8, "upright")
    before = torch.get_rng_state()
    list(read_batches(dataset, EvaluationBatches(7, 4), workers))
    assert torch.equal(torch.get_rng_state(), before)


def test_terminated_workers_exit_after_a_while(split, monkeypatch):
    """A parent that leaves in the middle of a pass terminates them, and waits."""
    monkeypatch.setattr("lib.data.workers.GRACE_SECONDS", 1)
    dataset = ImageDataset(split, 8, "upright")
    batches = iter(read_batches(dataset, EvaluationBatches(7, 1), 1).loader)
    next(batches)
    (worker,) = batches._workers
    worker.terminate()
    worker.join(0.3)
    assert worker.is_alive()
    worker.join(10)
    assert not worker.is_alive()


@pytest.fixture
def dataset(split):
    return ImageDataset(split, 8, "upright")


@pytest.fixture
def small_memory(monkeypatch, tmp_path):
    """Shared memory with room for some number of bytes, which the test sets."""
    monkeypatch.setattr(PackedBatch, "noted", False)
    room = SimpleNamespace(f_bavail=0, f_frsize=1)
    monkeypatch.setattr(module, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(module.os, "statvfs", lambda path: room)
    return room


def equal(found, expected):
    return (
        all(torch.equal(one, other) for one, other in zip(found[:-1], expected[:-1], strict=True))
        and found.errors == expected.errors
    )


def test_short_shared_memory_is_noted_once_and_pipes_are_used(dataset, small_memory, capsys):
    """A batch of 4 images of 8 x 8 pixels leaves as much free as it takes."""
    needed = 2 * 4 * 3 * 8 * 8
    alone = list(read_batches(dataset, EvaluationBatches(7, 4), 0))
    for room, pipe in ((needed, False), (needed - 1, True), (0, True)):
        small_memory.f_bavail = room
        loader = read_batches(dataset, EvaluationBatches(7, 4), 2)
        assert next(iter(loader.loader)).in_pipe is pipe
        assert all(map(equal, loader, alone))
    err = capsys.readouterr().err
    assert err.count("note: ") == 1 and "--shm-size=8g, or --ipc=host" in err


def test_workers_that_cannot_start_name_the_cause(dataset, monkeypatch):
    """The semaphores of their queues lie in shared memory too."""

    def refuse(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.utils.data.dataloader._MultiProcessingDataLoaderIter", refuse)
    with refused(None, "/dev/shm", "--shm-size=8g", "--workers 0"):
        next(iter(read_batches(dataset, EvaluationBatches(7, 4), 1)))


def test_a_batch_that_finds_no_room_goes_through_the_pipe(dataset, monkeypatch):
    """Another program may have taken what was free just before."""
    (batch,) = read_batches(dataset, EvaluationBatches(7, 7), 0)
    dumps = module.ForkingPickler.dumps

    def refuse(content):
        if isinstance(content.inputs, torch.Tensor):
            raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>")
        return dumps(content)

    monkeypatch.setattr(module.ForkingPickler, "dumps", refuse)
    packed = PackedBatch(batch)
    assert packed.in_pipe and equal(packed.unpack(), batch)


@pytest.mark.parametrize("room", [0, 10**6])
def test_a_packed_batch_is_page_locked_as_a_batch(dataset, small_memory, monkeypatch, room):
    """PyTorch's loader asks for it in a thread of its own, on CUDA."""
    (batch,) = read_batches(dataset, EvaluationBatches(7, 7), 0)
    small_memory.f_bavail = room
    locked = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda one: locked.append(one) or one)
    found = pin_memory(PackedBatch(batch))
    assert isinstance(found, Batch) and equal(found, batch) and len(locked) == 4


DYING = """
import os, sys
import numpy as np, torch
from lib.common.cli import run_main
from lib.data.loader import EvaluationBatches
from lib.data.dataset import ImageDataset
from lib.data.split import Split
from lib.data.workers import BatchLoader

class Dying(ImageDataset):
    def read(self, key):
        if key.row == 5:
            {death}
        return super().read(key)

def main():
    targets = np.zeros((7, 3), np.uint8)
    split = Split.from_dense("train", [f"{{row}}.png" for row in range(7)], targets, targets > 0)
    batches, cpu = EvaluationBatches(7, 1), torch.device("cpu")
    for batch in BatchLoader(Dying(split, 8, "upright"), batches, workers=2, device=cpu):
        print(batch.rows.tolist())

run_main(main)
"""


@pytest.mark.parametrize("death", ["os.kill(os.getpid(), 9)", "os.kill(os.getpid(), 11)"])
def test_a_worker_that_dies_ends_the_command(split, tmp_path, death):
    """Killed for memory, or by a crash in a decoder."""
    result = run("-c", DYING.format(death=death), cwd=tmp_path)
    assert "--workers 0" in error_line(result)


def test_a_dead_worker_raises_only_while_a_batch_is_waited_for(dataset):
    """PyTorch's handler of SIGCHLD would raise anywhere."""
    calls = []
    before = signal.signal(signal.SIGCHLD, lambda *call: calls.append(call))
    try:
        list(read_batches(dataset, EvaluationBatches(7, 1), 0))
        assert len(calls) == 8  # asked before each batch, and at the end
        signal.raise_signal(signal.SIGCHLD)
        assert len(calls) == 8
    finally:
        signal.signal(signal.SIGCHLD, before)


@pytest.mark.parametrize("cores, ranks, expected", [(64, 1, 16), (64, 8, 8), (4, 8, 1)])
def test_number_of_workers(monkeypatch, cores, ranks, expected):
    monkeypatch.setattr("lib.runtime.cores.machine_cores", lambda: cores)
    monkeypatch.setattr(
        "lib.runtime.cores.rank_info", lambda: SimpleNamespace(local_world_size=ranks)
    )
    assert default_workers() == expected


def test_validation_ends_its_workers(dataset):
    for persistent in (False, True):
        loader = read_batches(dataset, EvaluationBatches(7, 1), 1, persistent=persistent)
        list(loader)
        assert (loader.loader._iterator is not None) is persistent
