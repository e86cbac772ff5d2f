"""What launchers tell a process, as torchrun's variables."""

import os

import pytest

from lib.common.errors import UserError
from lib.common.rank_info import adopt_launcher, is_launched, rank_info

SLURM = {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1"}
STEP = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_TASK_PID": "9"}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "PMIX_NAMESPACE": "12",
}
MPICH = {"PMI_RANK": "0", "PMI_SIZE": "2", "MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "2"}
TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "h"}
TORCHRUN |= {"MASTER_PORT": "1"}


@pytest.fixture
def variables(monkeypatch):
    """The environment, which starts empty."""
    monkeypatch.setattr(os, "environ", {})
    return os.environ


@pytest.mark.parametrize(
    "given, ranks, address",
    [
        (TORCHRUN, (1, 2, 1, 1), "h"),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "2"}, (1, 2, 1, 2), "h"),
        (SLURM | STEP | {"SLURM_STEP_NODELIST": "gpu[03-07,9],x1"}, (3, 4, 1, 1), "gpu03"),
        (SLURM | {"SLURM_JOB_NODELIST": "a-1,a-2"}, (3, 4, 1, 1), "a-1"),
        (SLURM | {"SLURM_NODELIST": "rack[2-3]n[1-4]"}, (3, 4, 1, 1), "rack2n1"),
        (SLURM | {"MASTER_ADDR": "h", "SLURM_NODELIST": "n1"}, (3, 4, 1, 1), "h"),
        (OPEN_MPI, (1, 2, 1, 2), "127.0.0.1"),
        (OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "4", "MASTER_ADDR": "h"}, (1, 4, 1, 2), "h"),
        (MPICH, (0, 2, 0, 2), "127.0.0.1"),
        # mpirun starts a daemon on each node by srun, whose ranks these are not
        (OPEN_MPI | SLURM | STEP, (1, 2, 1, 2), "127.0.0.1"),
        # srun with --mpi=pmi2
        (SLURM | STEP | {"PMI_RANK": "3", "PMI_SIZE": "4", "MASTER_ADDR": "h"}, (3, 4, 1, 1), "h"),
        # an sbatch script that exports some of torchrun's variables for srun
        (SLURM | STEP | {"WORLD_SIZE": "4", "MASTER_ADDR": "h"}, (3, 4, 1, 1), "h"),
    ],
)
def test_a_launchers_variables_become_torchruns(variables, given, ranks, address):
    variables.update(given)
    assert is_launched() and rank_info() == ranks
    adopt_launcher()
    assert rank_info() == ranks and variables["MASTER_ADDR"] == address
    assert [variables[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")] == [
        str(number) for number in ranks[:3]
    ]
    assert int(variables["MASTER_PORT"]) > 0
    before = dict(variables)
    adopt_launcher()
    assert variables == before


def test_all_processes_of_a_job_choose_one_port_and_other_jobs_others(variables):
    ports = []
    for job, rank in (("7", "0"), ("7", "1"), ("8", "0")):
        variables.clear()
        variables.update(SLURM | STEP | {"SLURM_NODELIST": "n1"})
        variables.update({"SLURM_JOB_ID": job, "SLURM_PROCID": rank})
        adopt_launcher()
        ports.append(variables["MASTER_PORT"])
    assert ports[0] == ports[1] != ports[2]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"WORLD_SIZE": "1"},
        {"LOCAL_RANK": "0"},
        {"SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"},  # in the shell of salloc
        SLURM | {"SLURM_TASK_PID": "9", "SLURM_JOB_ID": "7"},  # in a batch script, outside srun
    ],
)
def test_a_single_process(variables, given):
    variables.update(given)
    adopt_launcher()
    assert not is_launched() and rank_info() == (0, 1, 0, 1)
    assert variables.keys() - {"PYTEST_CURRENT_TEST"} == given.keys()


@pytest.mark.parametrize(
    "given, where, missing",
    [
        ({"RANK": "3", "WORLD_SIZE": "2"}, "RANK=3", "LOCAL_RANK"),
        ({"RANK": "0"}, "RANK=0", "WORLD_SIZE and LOCAL_RANK"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2", "RANK and LOCAL_RANK"),
        ({"LOCAL_RANK": "1"}, "LOCAL_RANK=1", "RANK and WORLD_SIZE"),
        (TORCHRUN | {"MASTER_PORT": ""}, "WORLD_SIZE=2", "MASTER_PORT"),
        (TORCHRUN | {"RANK": "2"}, "RANK=2", "WORLD_SIZE=2"),
        (TORCHRUN | {"RANK": "x"}, "RANK=x", "number"),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "-1"}, "LOCAL_WORLD_SIZE=-1", "number"),
        (SLURM, "SLURM_NTASKS=4", "MASTER_ADDR"),
        (OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "4"}, "OMPI_COMM_WORLD_SIZE=4", "MASTER_ADDR"),
        ({"PMI_RANK": "1", "PMI_SIZE": "2"}, "PMI_RANK=1", "MPI_LOCALRANKID"),
    ],
)
def test_several_processes_that_cannot_meet_are_refused(variables, given, where, missing):
    variables.update(given)
    with pytest.raises(UserError) as refused:
        adopt_launcher()
    assert refused.value.where == where and missing in str(refused.value)
