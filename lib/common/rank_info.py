"""Which process of a run this is, by the environment that torchrun sets. Imports no torch."""

import os
from typing import NamedTuple

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class RankInfo(NamedTuple):
    """A process among `world_size`, of which `local_world_size` are on this machine; from 0."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1


def is_launched() -> bool:
    """Whether a launcher started this process; it alone sets all of the variables."""
    values = [os.environ.get(name, "") for name in VARIABLES]
    return all(values) and all(value.isdecimal() for value in values[:4])


def rank_info() -> RankInfo:
    """Where this process stands; alone, without a launcher."""
    return (
        RankInfo(*(int(os.environ[name]) for name in VARIABLES[:4]))
        if is_launched()
        else RankInfo()
    )


def restart_count() -> int:
    """How often the launcher has started this run anew after a failure."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) if is_launched() else 0
