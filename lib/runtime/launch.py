"""How the processes of a run start, join in a process group, and end together."""

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import NoReturn

import torch
import torch.distributed as dist

from lib.common.errors import UserError
from lib.common.failures import explain, is_lost_contact, quoted
from lib.common.rank_info import adopt_launcher, is_launched, rank_info
from lib.runtime.device import keep_freed_memory, limit_threads, select_device
from lib.runtime.world import RaisedOnAllRanks, World

TIMEOUT = 600  # seconds


@contextlib.contextmanager
def session(device_name: str, timeout: int = TIMEOUT) -> Iterator[World]:
    """Join the other processes of the run, if a launcher started this one, and leave at the end.

    A rank that does not answer for `timeout` seconds ends the run. A rank prints its own error;
    ranks that lose contact because of it print nothing.
    """
    adopt_launcher()
    here = rank_info()
    if here.world_size > 1 and ":" in device_name:
        raise UserError(
            f"--device {device_name}: the processes of a run take the GPUs in turn: pass --device "
            "cuda, and choose among them with CUDA_VISIBLE_DEVICES"
        )
    device = select_device(device_name, here.local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    keep_freed_memory(device)
    if not is_launched():
        limit_threads()
        yield World(device)
        return
    threading.Thread(target=_end_with_launcher, args=(os.getppid(),), daemon=True).start()
    store, kept = _rendezvous(device, timeout)
    world = World(device, here.rank, here.world_size, store, kept)
    try:
        _require_own_gpu(world)
        hosts = world.gather(socket.gethostname())  # where the launcher does not say it
        os.environ.setdefault("LOCAL_WORLD_SIZE", str(hosts.count(socket.gethostname())))
        limit_threads()
        yield world
    except RaisedOnAllRanks as error:
        error.printed_by = _stay_to_print("this" if here.rank == 0 else "another")
        dist.destroy_process_group()
        raise
    except BaseException as raised:
        printed_by = _stay_to_print(_elect_printer(store))
        if device.type != "cuda":  # NCCL may wait for the other ranks, which do not leave now
            dist.destroy_process_group()
        told = _lost_contact(raised) if is_lost_contact(raised) else explain(raised)
        if told is None:
            raise
        told.printed_by = printed_by
        if told is raised:
            raise
        raise told from raised
    dist.destroy_process_group()


def processes_to_start(device_name: str) -> int:
    """How many processes to start for this machine's GPUs; 0 if a launcher has decided, or for a
    single device."""
    adopt_launcher()
    if is_launched() or device_name not in ("auto", "cuda") or not torch.cuda.is_available():
        return 0
    number = torch.cuda.device_count()
    return number if number > 1 else 0


def start_processes(number: int) -> NoReturn:
    """Run this command in `number` processes on this machine; exit with their exit code."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # the processes print what went wrong themselves
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL + 1)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=number,
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


def _rendezvous(device: torch.device, timeout: int) -> tuple[dist.Store, dist.Store]:
    """Join the process group; returns the store that its processes share, and the launcher's, which
    outlives them."""
    here, limit = rank_info(), timedelta(seconds=timeout)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" and not _gpus_are_shared() else "gloo"
    try:
        kept, rank, world_size = next(dist.rendezvous("env://", timeout=limit))
        store = _store_of_attempt(kept, rank, world_size, timeout)
        dist.init_process_group(
            backend, store=store, rank=rank, world_size=world_size, timeout=limit
        )
    except (RuntimeError, ValueError) as error:
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise explain(error) or UserError(
            f"process {here.rank} of {here.world_size}: no rendezvous with the others at {address} "
            f"within {timeout} s: check the address, the number of processes, and that all run "
            f"({quoted(error)})"
        ) from error
    return store, kept


def _store_of_attempt(kept: dist.Store, rank: int, world_size: int, timeout: int) -> dist.Store:
    """A part of the launcher's store in which nothing is written yet, the same for all ranks.

    A launcher keeps its store over a restart, with the addresses of the previous processes, and
    each machine counts only those restarts that its own processes caused. So rank 0 numbers the
    attempts: it serves the tickets that the others have drawn until all have joined. Previous
    processes are gone by then. Raises `RuntimeError` if not all join within `timeout` seconds.
    """
    if rank:
        ticket = kept.add("tickets", 1)
        attempt = kept.get(f"ticket {ticket}").decode()
        kept.add(f"joined {attempt}", 1)
        return dist.PrefixStore(attempt, kept)
    attempt, served = f"attempt {kept.add('attempts', 1)}", 0
    deadline = time.monotonic() + timeout
    while (joined := 1 + kept.add(f"joined {attempt}", 0)) < world_size:
        drawn = kept.add("tickets", 0)
        for ticket in range(served + 1, drawn + 1):
            kept.set(f"ticket {ticket}", attempt)
        served = drawn
        if time.monotonic() > deadline:
            raise RuntimeError(f"{joined} of {world_size} processes have joined")
        time.sleep(0.01)
    return dist.PrefixStore(attempt, kept)


def _gpus_are_shared() -> bool:
    """Whether several processes may share a GPU, over gloo, for tests on a single one."""
    return os.environ.get("SGRE_SHARE_GPUS") == "1"


def _require_own_gpu(world: World) -> None:
    """Refuse fewer GPUs than processes, which NCCL cannot serve."""
    if world.device.type != "cuda" or _gpus_are_shared():
        return
    uuid = torch.cuda.get_device_properties(world.device).uuid
    gpus = set(world.gather((socket.gethostname(), str(uuid))))
    if len(gpus) < world.world_size:
        raise RaisedOnAllRanks(
            f"{world.world_size} processes have only {len(gpus)} GPUs: start one process a GPU "
            "(torchrun --nproc-per-node, srun --ntasks-per-node), and check CUDA_VISIBLE_DEVICES"
        )


def _end_with_launcher(launcher: int) -> None:
    """Stop this process once its launcher is gone, which could not end it any more."""
    while os.getppid() == launcher:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def _lost_contact(error: BaseException) -> UserError:
    here = rank_info()
    return UserError(
        f"process {here.rank} of {here.world_size} lost contact with another one, which was killed "
        "or does not answer: see its own messages, and continue with --resume "
        f"({quoted(error)})"
    )


def _stay_to_print(printed_by: str) -> str:
    """Let this process print why the run ends, if it must, although its launcher stops it as soon
    as another one has left; returns `printed_by`."""
    if printed_by == "this":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return printed_by


def _elect_printer(store: dist.Store) -> str:
    """Which process prints why the run ends: the first one that asks."""
    try:
        return "this" if store.add("printed", 1) == 1 else "another"
    except RuntimeError:  # the process that kept the store is gone
        return "this"
