"""What the processes of a run exchange, and how they end together; three of them over gloo."""

import json

import numpy as np
import torch
from torch import nn

from lib.common.errors import UserError
from lib.runtime.world import World, has_unused_parameters
from tests.helpers.commands import run_together
from tests.helpers.refusals import refused

EXCHANGES = """
import json, numpy as np, torch
from torch import nn
from lib.runtime.launch import session
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


ONCE_PER_MACHINE = """
import time
from pathlib import Path
from lib.runtime.launch import session
from lib.common.errors import UserError

made = []

def make():
    made.append(1)
    if not Path("made").exists():
        time.sleep(3)  # longer than the others wait in a collective
        Path("made").touch()
        return "made"
    return "found"

def fail():
    raise UserError("no room")

with session("cpu", timeout=2) as world:
    what = world.once_per_machine(make)
    try:
        world.once_per_machine(fail)
    except UserError as error:
        print(len(made), what, error)
"""


def test_one_process_of_a_machine_works_while_the_others_wait(tmp_path):
    """For longer than the timeout of an exchange."""
    results = run_together(3, "-c", ONCE_PER_MACHINE, cwd=tmp_path)
    assert [result.code for result in results] == [0] * 3, results[1].err
    assert [result.out for result in results] == ["1 made no room\n", *["1 found no room\n"] * 2]


def test_alone_every_exchange_is_free():
    world = World(torch.device("cpu"))
    rows = np.ones((2, 2), np.float32)
    world.merge_(rows)
    norm, model = nn.BatchNorm1d(2), nn.Linear(2, 2)
    world.average_bn_statistics(norm, 0)
    assert world.is_main_process and world.sum(3, 4) == [3, 4] and world.gather("a") == ["a"]
    assert rows.tolist() == [[1, 1], [1, 1]] and norm.running_mean.tolist() == [0, 0]
    assert world.broadcast_from_main(lambda: 7) == 7
    assert world.wrap_ddp(model, (3, 8, 8)) is model and world.convert_sync_bn(model) is model
    with refused("here"), world.raise_on_all_ranks():
        raise UserError("here: broken")


def test_parameters_without_a_gradient_are_found():
    class Partly(nn.Module):
        def __init__(self, used):
            super().__init__()
            self.layers, self.used = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2)]), used

        def forward(self, images):
            used = self.layers[: self.used]
            return [*(layer(images.mean((2, 3))) for layer in used), None]

    for used, expected in ((1, True), (2, False)):
        model = Partly(used).train()
        assert has_unused_parameters(model, torch.zeros(1, 3, 4, 4)) is expected
        assert model.training and all(p.grad is None for p in model.parameters())


def test_asking_for_them_does_not_compile_the_network():
    """Or the first real batch would find the graph of one image in eval mode."""
    graphs = []
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    model.compile(backend=lambda graph, inputs: graphs.append(graph) or graph.forward)
    assert not has_unused_parameters(model, torch.zeros(1, 3, 4, 4)) and not graphs
    model(torch.zeros(2, 3, 4, 4))
    assert len(graphs) == 1
