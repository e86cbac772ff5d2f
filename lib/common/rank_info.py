"""Rank and world size of this process, from torchrun's environment variables. Imports no torch."""

import os
from typing import NamedTuple

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class RankInfo(NamedTuple):
    """Rank and number of processes in the run (world), and on this machine (local); from 0."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1


def is_launched() -> bool:
    """Whether a launcher such as torchrun started this process: all its variables are set."""
    values = [os.environ.get(name, "") for name in VARIABLES]
    return all(values) and all(value.isdecimal() for value in values[:4])


def rank_info() -> RankInfo:
    """This process's ranks; those of a single process without a launcher."""
    if not is_launched():
        return RankInfo()
    return RankInfo(*(int(os.environ[name]) for name in VARIABLES[:4]))


def restart_count() -> int:
    """How often the launcher has restarted this run after a failure."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) if is_launched() else 0
