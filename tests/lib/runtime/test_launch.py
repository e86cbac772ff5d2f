"""How the processes of a run start, join and end together; three of them over gloo."""

from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from lib.runtime.launch import _require_own_gpu, processes_to_start, session
from lib.runtime.world import World
from tests.helpers.commands import ROOT, environments, run, run_here, run_together
from tests.helpers.refusals import refused

FAILURES = """
import os, signal, sys
import torch.distributed as dist
from lib.common.cli import run_main
from lib.runtime.launch import session
from lib.common.errors import UserError

def main():
    with session("cpu", timeout=300) as world:
        world.sum(1)
        if world.rank == 1:
            {failure}
        world.sum(1)

run_main(main)
"""

# as by a launcher that has seen another process leave
STOPPED = "dist.destroy_process_group = lambda: os.kill(os.getpid(), signal.SIGTERM)"


@pytest.mark.parametrize(
    "failure, code, line",
    [
        ("raise UserError('a.jpg: broken')", 2, "error: a.jpg: broken"),
        (f"{STOPPED}; raise UserError('a.jpg: broken')", 2, "error: a.jpg: broken"),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9, "lost contact"),
        ("1 / 0", 1, "ZeroDivisionError: "),
        (
            "raise RuntimeError('DataLoader worker (pid 7) is killed by signal: Killed. ')",
            2,
            "error: DataLoader worker (pid 7) is killed by signal: ",
        ),
    ],
    ids=["bad input", "stopped before it prints", "killed", "bug", "environment"],
)
def test_one_failing_ends_all_and_is_heard_once(tmp_path, failure, code, line):
    results = run_together(3, "-c", FAILURES.format(failure=failure), cwd=tmp_path, timeout=300)
    assert [result.code for result in results] == [2, code, 2]
    assert "".join(result.err for result in results).count(line) == 1
    assert sum("error:" in result.err for result in results) == (0 if code == 1 else 1)


@pytest.mark.parametrize("local_rank, prints", [(0, True), (1, False)])
def test_the_first_process_of_another_machine_prints_what_it_meets_alone(
    monkeypatch, capsys, local_rank, prints
):
    for name, value in (environments(4)[2] | {"LOCAL_RANK": str(local_rank)}).items():
        monkeypatch.setenv(name, value)
    result = run_here(monkeypatch, capsys, "train.py", "--lr", "-1")
    assert result.code == 2 and ("--lr -1.0: " in result.err) == prints


def test_errors_before_the_processes_meet_are_printed_by_the_first(tmp_path):
    # interpreters that have not loaded Triton, which may tell of its own affairs at their end
    results = run_together(2, "train.py", "--lr", "-1", cwd=tmp_path, new_interpreter=True)
    assert [result.code for result in results] == [2, 2]
    assert "--lr -1.0: " in results[0].err and not results[1].err


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rendezvous_that_not_all_reach(monkeypatch, rank):
    for name, value in environments(2)[rank].items():
        monkeypatch.setenv(name, value)
    with refused(f"process {rank} of 2", "127.0"), session("cpu", timeout=1):
        pass


RESTARTED = """
import os, sys
os.environ["MASTER_PORT"], first = sys.argv[1:]
os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
# the second machine's processes failed, and only that one counts it
os.environ["TORCHELASTIC_RESTART_COUNT"] = os.environ["RANK"] if first == "no" else "0"
from lib.common.cli import run_main
from lib.runtime.launch import session

def main():
    with session("cpu", timeout=20) as world:
        if first == "yes":
            world.store_set("folder", "exp1")
        print(world.store_get("folder"), world.gather(world.once_per_machine(lambda: world.rank)))

run_main(main)
"""


def test_processes_join_again_after_restarts_that_each_machine_counts_for_itself(tmp_path):
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    for first in ("yes", "no", "no"):
        results = run_together(2, "-c", RESTARTED, store.port, first, cwd=tmp_path)
        assert [result.code for result in results] == [0, 0], results[0].err
        assert [result.out for result in results] == ["exp1 [0, 1]\n"] * 2


LAUNCHER = """
import sys
from lib.common.rank_info import is_launched, rank_info

if is_launched():
    print(f"process {rank_info().rank} of {rank_info().world_size} with {sys.argv[1:]}", flush=True)
    sys.exit(int(sys.argv[1]) if rank_info().rank == 1 else 0)

from lib.runtime.launch import start_processes
start_processes(2)
"""


@pytest.mark.parametrize(
    "code", [2, *(pytest.param(code, marks=pytest.mark.slow) for code in (0, 143))]
)
def test_one_command_starts_a_process_per_gpu(tmp_path, code, monkeypatch):
    (tmp_path / "launcher.py").write_text(LAUNCHER)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    result = run(str(tmp_path / "launcher.py"), code, "a b", cwd=tmp_path)
    assert result.code == code and "Traceback" not in result.err
    expected = [f"process {rank} of 2 with ['{code}', 'a b']" for rank in range(2)]
    assert sorted(result.out.splitlines()) == expected or code
    assert expected[1] in result.out


def test_number_of_processes(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for devices, expected in ((1, 0), (4, 4)):
        monkeypatch.setattr(torch.cuda, "device_count", lambda devices=devices: devices)
        assert processes_to_start("auto") == processes_to_start("cuda") == expected
        assert processes_to_start("cpu") == 0
    for name, value in environments(2)[1].items():
        monkeypatch.setenv(name, value)
    assert processes_to_start("cuda") == 0


@pytest.mark.parametrize("other", ["a", "b"])
def test_fewer_gpus_than_processes(monkeypatch, other):
    """Whether all processes see all GPUs, or each its own as device 0."""
    properties = SimpleNamespace(uuid="a")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    world = World(torch.device("cuda", 0), 0, 2)
    monkeypatch.setattr(world, "gather", lambda own: [own, (own[0], other)])
    if other == "a":
        with refused(None, "2 processes", "1 GPUs"):
            _require_own_gpu(world)
        monkeypatch.setenv("SGRE_SHARE_GPUS", "1")
    _require_own_gpu(world)
