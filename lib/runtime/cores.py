"""The CPU cores that a process may use."""

import math
import os
from pathlib import Path

from lib.common.rank_info import rank_info

CGROUPS = Path("/sys/fs/cgroup")


def machine_cores() -> int:
    """Cores of this machine that its processes may use together."""
    quota = cpu_quota(Path("/proc/self/cgroup"), CGROUPS)
    return max(1, min(visible_cores(), math.ceil(quota)) if quota else visible_cores())


def visible_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_cores() -> int:
    """Cores for this process, where the ranks of a machine divide them."""
    return max(1, machine_cores() // rank_info().local_world_size)


def cpu_quota(groups: Path, root: Path) -> float | None:
    """The CPU time that a container, or a job of a cluster, may take, in cores; None: all.

    `groups` lists the control groups of this process as /proc/self/cgroup does; they and those
    around them lie below `root`, by version 2 (cpu.max) or 1 (cpu.cfs_quota_us).
    """
    if not groups.exists():
        return None
    found = []
    for line in groups.read_text().splitlines():
        _, kinds, path = line.split(":", 2)
        if kinds and "cpu" not in kinds.split(","):
            continue
        base = root / kinds if kinds else root
        group = base / path.lstrip("/")
        # a container sees its own group as the root, whatever path it has outside
        for folder in {base, group, *group.parents} - set(base.parents):
            found += _quota(folder)
    return min(found, default=None)


def _quota(folder: Path) -> list[float]:
    try:
        if (file := folder / "cpu.max").exists():
            quota, period = file.read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text()
    except OSError:  # no such group
        return []
    return [] if quota in ("max", "-1") else [int(quota) / int(period)]
