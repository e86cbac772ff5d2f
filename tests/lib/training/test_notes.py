"""Notes at the start of a run."""

import pytest
import torch

from lib.config import Config
from lib.runtime.world import World
from lib.training import notes
from lib.training.prepare import build_run


@pytest.mark.parametrize(
    "model, settings, noted",
    [
        ("mlic", {}, True),
        ("q2l", {}, True),
        ("csra", {}, False),
        ("mlic", {"accum_steps": 4}, False),
    ],
)
def test_a_heads_memory_for_many_labels(monkeypatch, model, settings, noted):
    own = {"embed_type": "random"} if model == "mlic" else {}
    config = Config(model=model, arch="resnet10t", weights="none", img_size=64, **own, **settings)
    run = build_run(
        config, list(map(str, range(90))), None, World(torch.device("cpu")), steps_per_epoch=99
    )
    labels_of_half_a_batch = config.batch_size // 2 * 90 * 512 * 9 * 4
    monkeypatch.setattr(notes, "total_memory", lambda device: labels_of_half_a_batch)
    assert any("--accum-steps" in note for note in notes.notes_on(run, 99)) == noted
