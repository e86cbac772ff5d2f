"""Which process of a run this one is, as its launcher says. Imports no torch.

torchrun, srun and mpirun say it by environment variables of their own.
"""

import hashlib
import os
import re
from typing import NamedTuple

from lib.common.errors import UserError

DEFAULT_PORT = 29500  # PyTorch's


class RankInfo(NamedTuple):
    """Rank and number of processes in the run (world), and on this machine (local); from 0.

    A launcher may leave `local_world_size` out, which is 1 until the processes have met.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1


class Launcher(NamedTuple):
    """The variables by which a launcher tells each process its place, and the `job` that this is
    a part of."""

    rank: str
    world_size: str
    local_rank: str
    local_world_size: str = "LOCAL_WORLD_SIZE"
    job: tuple[str, ...] = ()

    def missing(self) -> list[str]:
        """The variables that are not set, of those that it needs."""
        return [name for name in self[:3] if not os.environ.get(name)]

    def set_in_part(self) -> list[str]:
        """Those that are set, where they speak of several processes but not all are there."""
        alone = {self.world_size: "1", self.local_rank: "0"}
        told = {name: os.environ[name] for name in self[:3] if os.environ.get(name)}
        several = [name for name, value in told.items() if value != alone.get(name)]
        return several if self.missing() and told.get(self.world_size) != "1" else []


TORCHRUN = Launcher("RANK", "WORLD_SIZE", "LOCAL_RANK")
OPEN_MPI = Launcher(
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "OMPI_COMM_WORLD_LOCAL_SIZE",
    ("PMIX_NAMESPACE",),
)
MPICH = Launcher("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", ("PMI_PORT",))
SRUN = Launcher(
    "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", job=("SLURM_JOB_ID", "SLURM_STEP_ID")
)
# the first that is complete; mpirun may itself be started by srun
LAUNCHERS = (TORCHRUN, OPEN_MPI, MPICH, SRUN)


def launcher() -> Launcher | None:
    """The launcher that started this process as one of several, or None."""
    for one in LAUNCHERS:
        if not one.missing() and not (one == SRUN and _is_batch_script()):
            return one
    return None


def is_launched() -> bool:
    """Whether a launcher started this process."""
    return launcher() is not None


def rank_info() -> RankInfo:
    """This process's ranks; those of a single process without a launcher."""
    found = launcher()
    values = [os.environ.get(name) or "1" for name in found[:4]] if found else []
    return RankInfo(*map(int, values)) if all(map(str.isdecimal, values)) else RankInfo()


def adopt_launcher() -> None:
    """Set torchrun's variables, which PyTorch reads, to what another launcher says.

    Raises `UserError`, naming what is missing or wrong, for variables that speak of several
    processes but do not say all that these need to meet. Does nothing without a launcher.
    """
    found = launcher()
    if found is None:
        for one in (TORCHRUN, OPEN_MPI, MPICH):
            for name in one.set_in_part():
                raise _refusal(name, f"without {' and '.join(one.missing())}")
        return
    for name in found[:4]:
        if not os.environ.get(name, "0").isdecimal():
            raise _refusal(name, "must be a whole number")
    here = rank_info()
    if here.rank >= here.world_size:
        error = _refusal(found.rank, f"must be less than {found.world_size}={here.world_size}")
        error.printed_by = "this"  # the others' may be right
        raise error
    values = dict(zip(TORCHRUN[:4], map(os.environ.get, found[:4]), strict=True))
    values |= {"MASTER_ADDR": _host(found), "MASTER_PORT": _port(found)}
    for name, value in values.items():
        if not os.environ.get(name) and value:
            os.environ[name] = value
    if unset := [name for name in values if name.startswith("MASTER") and not os.environ.get(name)]:
        raise _refusal(found.world_size, f"without {' and '.join(unset)}")


def _is_batch_script() -> bool:
    """Whether this process runs in a job of SLURM, but outside srun: it is one, and not one of the
    tasks that its variables speak of."""
    return "SLURM_TASK_PID" in os.environ and "SLURM_STEP_ID" not in os.environ


def _host(found: Launcher) -> str | None:
    """The host of rank 0, as far as the launcher tells it."""
    if found == TORCHRUN:
        return None
    if os.environ.get(found.local_world_size) == os.environ[found.world_size]:
        return "127.0.0.1"
    if found != SRUN:
        return None
    lists = (os.environ.get(f"SLURM_{name}NODELIST") for name in ("STEP_", "JOB_", ""))
    nodes = next(filter(None, lists), "")
    # node[03-07,9],gpu1 -> node03
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", nodes).partition(",")[0] or None


def _port(found: Launcher) -> str | None:
    """A port that all processes of the job choose, and rarely those of another."""
    if found == TORCHRUN:
        return None
    job = [os.environ[name] for name in found.job if name in os.environ]
    digest = int(hashlib.sha256(".".join(job).encode()).hexdigest(), 16)
    return str(20000 + digest % 10000 if job else DEFAULT_PORT)


def _refusal(name: str, problem: str) -> UserError:
    return UserError(
        f"{name}={os.environ[name]}: {problem}, so the processes of this run cannot meet: start "
        "them by torchrun, srun or mpirun, or unset it for a single process"
    )
