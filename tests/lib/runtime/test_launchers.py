"""Two real processes meet over gloo, by the variables of each launcher."""

import os
import socket

import pytest

from tests.helpers.commands import start

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


@pytest.mark.parametrize(
    "variables", [by_torchrun_without_the_local_size, by_srun, by_open_mpi, by_mpich]
)
def test_two_processes_meet(tmp_path, variables):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    processes = []
    for rank in "01":
        env = os.environ | variables(rank) | {"OMP_NUM_THREADS": "1"}
        if variables is not by_srun:  # which chooses one by its job
            env["MASTER_PORT"] = port
        with open(tmp_path / rank, "wb") as output:
            processes.append(
                start("-c", REPORT, cwd=tmp_path, env=env, stdout=output.fileno(), stderr=2)
            )
    assert [process.wait(60) for process in processes] == [0, 0]
    ranks = [(0, 2, 0, 2), (1, 2, 1, 2)]
    assert [(tmp_path / rank).read_text() for rank in "01"] == [f"{n} {ranks}\n" for n in (0, 1)]
