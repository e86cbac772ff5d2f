"""What the processes of a run exchange, and how they end together; three of them over gloo."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from lib.common.errors import UserError
from lib.common.rank_info import is_launched, rank_info
from lib.runtime.world import World, has_unused_parameters, processes_to_start, session
from tests.helpers.commands import ROOT, environments, run, run_here, run_together

EXCHANGES = """
import json, numpy as np, torch
from torch import nn
from lib.runtime.world import session
from lib.common.errors import UserError

with session("cpu", timeout=300) as world:
    norm = nn.Sequential(nn.BatchNorm1d(2), nn.LayerNorm(2))
    norm[0].running_mean[:] = torch.tensor([1.0, 10.0]) * world.rank
    rows = np.zeros((3, 2), np.float32)
    rows[world.rank] = world.rank + 0.5
    world.merge_(rows)
    # of three processes, the second has seen no image
    world.average_bn_statistics(norm, images=(1, 0, 3)[world.rank])
    try:
        with world.raise_on_all_ranks():
            if world.rank == 2:
                raise UserError("no such file")
        told = None
    except UserError as error:
        told = [str(error), error.printed_by]
    found = {
        "sum": world.sum(world.rank, 10),
        "gathered": world.gather("abc"[world.rank]),
        "first": world.broadcast_from_main(lambda: f"made by {world.rank}"),
        "rows": rows.tolist(),
        "mean": norm[0].running_mean.tolist(),
        "told": told,
        "is_first": world.is_main_process,
    }
print(json.dumps(found))
"""


def test_exchanges(tmp_path):
    results = run_together(3, "-c", EXCHANGES, cwd=tmp_path)
    assert [result.code for result in results] == [0] * 3, results[0].err
    found = [json.loads(result.out) for result in results]
    assert [one.pop("is_first") for one in found] == [True, False, False]
    for one in found:
        assert one == {
            "sum": [3, 30],
            "gathered": ["a", "b", "c"],
            "first": "made by 0",
            "rows": [[0.5, 0.5], [1.5, 1.5], [2.5, 2.5]],
            "mean": [1.5, 15.0],
            "told": ["no such file", "first"],
        }


def test_alone_every_exchange_is_free():
    world = World(torch.device("cpu"))
    rows = np.ones((2, 2), np.float32)
    world.merge_(rows)
    norm, model = nn.BatchNorm1d(2), nn.Linear(2, 2)
    world.average_bn_statistics(norm, 0)
    assert world.is_main_process and world.sum(3, 4) == [3, 4] and world.gather("a") == ["a"]
    assert rows.tolist() == [[1, 1], [1, 1]] and norm.running_mean.tolist() == [0, 0]
    assert world.broadcast_from_main(lambda: 7) == 7
    assert world.wrap_ddp(model, 8) is model and world.convert_sync_bn(model) is model
    with pytest.raises(UserError, match="^here$"), world.raise_on_all_ranks():
        raise UserError("here")


def test_parameters_without_a_gradient_are_found():
    class Partly(nn.Module):
        def __init__(self, used):
            super().__init__()
            self.layers, self.used = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2)]), used

        def forward(self, images):
            return [self.layers[number](images.mean((2, 3))) for number in range(self.used)]

    for used, expected in ((1, True), (2, False)):
        model = Partly(used).train()
        assert has_unused_parameters(model, torch.zeros(1, 3, 4, 4)) is expected
        assert model.training and all(p.grad is None for p in model.parameters())


FAILURES = """
import os, signal, sys
from lib.common.cli import run_main
from lib.runtime.world import session
from lib.common.errors import UserError

def main():
    with session("cpu", timeout=300) as world:
        world.sum(1)
        if world.rank == 1:
            {failure}
        world.sum(1)

run_main(main)
"""


@pytest.mark.parametrize(
    "failure, code, line",
    [
        ("raise UserError('a.jpg: broken')", 2, "error: a.jpg: broken"),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9, "lost contact with another one"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero"),
    ],
    ids=["bad input", "killed", "bug"],
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
    assert result.code == 2 and ("error: --lr -1.0" in result.err) == prints


def test_a_malformed_environment_is_none(monkeypatch):
    for name, value in (environments(2)[1] | {"RANK": "x"}).items():
        monkeypatch.setenv(name, value)
    assert not is_launched() and rank_info() == (0, 1, 0, 1)


def test_errors_before_the_processes_meet_are_printed_by_the_first(tmp_path):
    results = run_together(2, "train.py", "--lr", "-1", cwd=tmp_path)
    assert [result.code for result in results] == [2, 2]
    assert "error: --lr -1.0: must be more than 0" in results[0].err and not results[1].err


def test_a_rendezvous_that_never_answers(monkeypatch):
    for name, value in environments(2)[1].items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="process 1 of 2: no rendezvous with the others at 127.0"):
        with session("cpu", timeout=1):
            pass


def test_a_rendezvous_to_which_not_all_come(monkeypatch):
    for name, value in environments(2)[0].items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="process 0 of 2: no rendezvous .* within 1 s: check"):
        with session("cpu", timeout=1):
            pass


LAUNCHER = """
import sys
from lib.common.rank_info import is_launched, rank_info

if is_launched():
    print(f"process {rank_info().rank} of {rank_info().world_size} with {sys.argv[1:]}", flush=True)
    sys.exit(int(sys.argv[1]) if rank_info().rank == 1 else 0)

from lib.runtime.world import start_processes
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
