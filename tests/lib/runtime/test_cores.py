"""The cores that a process may use."""

import pytest

import lib.runtime.cores as module
from lib.runtime.cores import cpu_quota, machine_cores


def group(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


@pytest.mark.parametrize(
    "groups, expected",
    [
        ("0::/", 1.5),
        ("0::/outside/of/the/container", 1.5),
        ("0::/job/step", 0.5),
        ("4:memory:/\n3:cpu,cpuacct:/\n", 2.5),
        ("3:cpuset:/", None),
        ("3:cpu:/free", None),
    ],
)
def test_quota(tmp_path, groups, expected):
    root = tmp_path / "cgroup"
    group(root, cpu__max="150000 100000")
    group(root / "job", cpu__max="50000 100000")
    group(root / "job" / "step", cpu__max="max 100000")
    group(root / "cpu,cpuacct", cpu__cfs_quota_us=250000, cpu__cfs_period_us=100000)
    group(root / "cpu" / "free", cpu__cfs_quota_us=-1, cpu__cfs_period_us=100000)
    (tmp_path / "groups").write_text(groups)
    assert cpu_quota(tmp_path / "groups", root) == expected
    assert cpu_quota(tmp_path / "none", root) is None


@pytest.mark.parametrize("quota, cores", [(None, 8), (16.0, 8), (1.5, 2), (0.2, 1)])
def test_cores(monkeypatch, quota, cores):
    monkeypatch.setattr(module, "cpu_quota", lambda groups, root: quota)
    monkeypatch.setattr(module, "visible_cores", lambda: 8)
    assert machine_cores() == cores
