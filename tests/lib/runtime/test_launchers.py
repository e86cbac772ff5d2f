"""Two real processes meet over gloo, by the variables of each launcher."""

import os
import socket

import pytest

from tests.helpers.commands import Result, error_line, error_where, run_here, start

OUTPUTS = ("out", "err")
REPORT = """
from lib.common.cli import run_main
from lib.common.rank_info import rank_info
from lib.runtime.launch import processes_to_start, session

def main():
    assert processes_to_start("auto") == 0
    with session("cpu", timeout=60) as world:
        print(world.rank, world.gather(tuple(rank_info())), flush=True)

run_main(main)
"""

# both processes see one GPU, and exchange through gloo
ONE_GPU = """
import types
import torch
import torch.distributed as dist
from lib.common.cli import run_main
from lib.runtime import launch

gpu = torch.device("cuda", 0)
launch.select_device = lambda name, local_rank: gpu
torch.cuda.set_device = lambda device: None
torch.cuda.get_device_properties = lambda device: types.SimpleNamespace(uuid="one")
join = dist.init_process_group
dist.init_process_group = lambda backend, **options: join("gloo", **options)

def main():
    with launch.session("cuda", timeout=60):
        pass

run_main(main)
"""


def by_torchrun_without_the_local_size(rank: str) -> dict[str, str]:
    return {"RANK": rank, "WORLD_SIZE": "2", "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1"}


def by_srun(rank: str) -> dict[str, str]:
    step = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_ID": "0", "SLURM_TASK_PID": rank}
    own = {"SLURM_PROCID": rank, "SLURM_NTASKS": "2", "SLURM_LOCALID": rank}
    return step | own | {"SLURM_STEP_NODELIST": "localhost"}


def by_open_mpi(rank: str) -> dict[str, str]:
    own = {"RANK": rank, "SIZE": "2", "LOCAL_RANK": rank, "LOCAL_SIZE": "2"}
    return {f"OMPI_COMM_WORLD_{name}": value for name, value in own.items()}


def by_mpich(rank: str) -> dict[str, str]:
    local = {"MPI_LOCALRANKID": rank, "MPI_LOCALNRANKS": "2"}
    return {"PMI_RANK": rank, "PMI_SIZE": "2"} | local


def run_both(folder, code, variables) -> list[Result]:
    """`code` in two processes with the `variables` of their ranks."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    processes = []
    for rank in "01":
        env = os.environ | variables(rank) | {"OMP_NUM_THREADS": "1"}
        if variables is not by_srun:  # which chooses one by its job
            env["MASTER_PORT"] = port
        with open(folder / f"out{rank}", "wb") as out, open(folder / f"err{rank}", "wb") as err:
            processes.append(
                start("-c", code, cwd=folder, env=env, stdout=out.fileno(), stderr=err.fileno())
            )
    return [
        Result(process.wait(60), *((folder / f"{kind}{rank}").read_text() for kind in OUTPUTS))
        for rank, process in enumerate(processes)
    ]


@pytest.mark.parametrize(
    "variables", [by_torchrun_without_the_local_size, by_srun, by_open_mpi, by_mpich]
)
def test_two_processes_meet(tmp_path, variables):
    results = run_both(tmp_path, REPORT, variables)
    ranks = [(0, 2, 0, 2), (1, 2, 1, 2)]
    assert [result.code for result in results] == [0, 0], results[0].err
    assert [result.out for result in results] == [f"{n} {ranks}\n" for n in (0, 1)]


def test_more_tasks_of_slurm_than_gpus(tmp_path):
    first, second = run_both(tmp_path, ONE_GPU, by_srun)
    assert "--ntasks-per-node" in error_line(first)
    assert second.code == 2 and "error:" not in second.err


@pytest.mark.parametrize(
    "given",
    [
        {"RANK": "3", "WORLD_SIZE": "2"},
        {"RANK": "3", "WORLD_SIZE": "2", "LOCAL_RANK": "1"},
        {"RANK": "1"},
        {"SLURM_PROCID": "5", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1"},
        {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"},
    ],
)
@pytest.mark.parametrize("command", ["train.py", "evaluate.py"])
def test_variables_that_contradict_each_other(monkeypatch, capsys, colors, command, given):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    flags = ("--data", "colors") if command == "train.py" else ("--exp-dir", colors)
    result = run_here(monkeypatch, capsys, command, *flags, "--device", "cpu")
    first = next(iter(given))
    assert error_where(result) == f"{first}={given[first]}"
