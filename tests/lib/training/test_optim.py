"""Optimisers and their parameter groups."""

import pytest
import torch
from torch import nn

from lib.training.optim import OPTIMIZERS, make_optimizer, parameter_groups, trained_parameters


def model():
    return nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))


def test_true_weight_decay_leaves_out_one_dimensional_parameters():
    plain = parameter_groups(model(), 0.3, False, lr=1)
    assert len(plain) == 1 and len(plain[0]["params"]) == 4 and plain[0]["weight_decay"] == 0.3
    decayed, undecayed = parameter_groups(model(), 0.3, True, lr=1)
    assert [p.ndim for p in decayed["params"]] == [2] and decayed["weight_decay"] == 0.3
    assert [p.ndim for p in undecayed["params"]] == [1, 1, 1] and undecayed["weight_decay"] == 0


def test_optimizers_are_those_of_the_method():
    adamw = make_optimizer(model(), "AdamW", lr=1, weight_decay=0.1)
    assert type(adamw).__name__ == "AdamW" and adamw.defaults["eps"] == 1e-8
    assert type(make_optimizer(model(), "Adam", lr=1, weight_decay=0.1)).__name__ == "Adam"
    assert make_optimizer(model(), "SGD", lr=1, weight_decay=0).defaults["momentum"] == 0.9


def with_backbone():
    parts = {"backbone": nn.Linear(2, 2), "head": nn.Linear(2, 3)}
    return nn.ModuleDict(parts)


def test_frozen_parameters_are_in_no_group():
    one = with_backbone()
    one["backbone"].requires_grad_(False)
    (group,) = parameter_groups(one, 0.3, False, lr=1, backbone_lr_scale=0.1)
    assert group["params"] == list(one["head"].parameters()) and group["lr"] == 1


def test_learned_label_embeddings_are_counted_first():
    """As the optimiser's state of every last.pth counts them."""
    network = with_backbone()
    network["head"].register_parameter("label_embeddings", nn.Parameter(torch.zeros(3, 2)))
    names = [name for name, _ in trained_parameters(network)]
    assert names[:2] == ["head.label_embeddings", "backbone.weight"] and len(names) == 5


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_first_step_that_the_scaler_skips_leaves_no_trace(name):
    """As in float16, whose first scale nearly always overflows."""
    moved = []
    for overflows in (True, False):
        with torch.random.fork_rng():
            model = nn.Linear(100, 100)
            nn.init.ones_(model.weight)
            optimizer = make_optimizer(model, name, lr=0.1, weight_decay=0.0)
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=100)
        junk = [torch.full((100, 100), 3e33) for _ in range(9)]  # what fresh memory then holds
        del junk
        for gradient in (float("inf"), 1.0) if overflows else (1.0,):
            optimizer.zero_grad()
            scaler.scale((model.weight * gradient).sum()).backward()
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
        moved.append(model.weight.detach())
    torch.testing.assert_close(*moved, rtol=0, atol=0)
    assert 0 < (1 - moved[0]).max() < 0.2
