"""Learning rate schedules."""

import numpy as np
import pytest
import torch

from lib.training.optim import make_optimizer
from lib.training.schedules import SCHEDULES, make_schedule
from tests.helpers import goldens
from tests.lib.training.test_optim import model, with_backbone


def schedule(name, optimizer, lr=1e-3, epochs=3, steps=5, **options):
    return make_schedule(name, optimizer, lr=lr, total_steps=epochs * steps, **options)


def test_parity_onecycle():
    small = goldens.arrays("small")
    optimizer = make_optimizer(model(), "AdamW", lr=9e-5, weight_decay=1e-4)
    cycle = schedule("OneCycleLR", optimizer, lr=9e-5)
    rates, momenta = [], []
    for _ in range(15):
        rates.append(cycle.lr)
        momenta.append(optimizer.param_groups[0]["betas"][0])
        optimizer.step()
        cycle.after_step()
    np.testing.assert_allclose(rates, small["onecycle.lr"], rtol=1e-9)
    np.testing.assert_allclose(momenta, small["onecycle.beta1"], rtol=1e-9)
    assert momenta[0] == pytest.approx(0.95) and min(momenta) == pytest.approx(0.85)


@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (1, 5), (5, 1), (1, 10), (2, 3)])
@pytest.mark.parametrize("pct_start", [0.0, 0.1, 0.2, 1.0])
def test_onecycle_takes_any_length(epochs, steps, pct_start):
    """PyTorch's own divides by zero where the rise takes exactly one step."""
    optimizer = make_optimizer(model(), "AdamW", lr=1e-3, weight_decay=0)
    cycle = schedule("OneCycleLR", optimizer, epochs=epochs, steps=steps, pct_start=pct_start)
    for _ in range(epochs * steps):
        assert 0 < cycle.lr <= 1e-3
        optimizer.step()
        cycle.after_step()


def test_step_schedule_falls_to_a_tenth():
    optimizer = make_optimizer(model(), "SGD", lr=1.0, weight_decay=0)
    steps = schedule("StepLR", optimizer, lr=1.0, step_size=2)
    rates = []
    for _ in range(5):
        optimizer.step()
        steps.after_step()
        rates.append(steps.lr)
        steps.after_epoch(0.5)
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_plateau_waits_one_epoch_for_a_better_score():
    optimizer = make_optimizer(model(), "Adam", lr=1.0, weight_decay=0)
    plateau = schedule("ReduceLROnPlateau", optimizer, lr=1.0)
    rates = []
    for score in (0.5, 0.6, 0.6, 0.55, 0.7):
        optimizer.step()
        plateau.after_step()
        plateau.after_epoch(score)
        rates.append(plateau.lr)
    assert rates == pytest.approx([1, 1, 1, 0.1, 0.1])


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_resume_from_their_state(name, tmp_path):
    def make():
        optimizer = make_optimizer(model(), "SGD", lr=1.0, weight_decay=0)
        return optimizer, schedule(name, optimizer, lr=1.0, step_size=1)

    (optimizer, first), (other_optimizer, second) = make(), make()
    for one in range(4):
        optimizer.step()
        first.after_step()
        first.after_epoch(0.5 - one)
    torch.save([optimizer.state_dict(), first.state_dict()], tmp_path / "state")
    states = torch.load(tmp_path / "state", weights_only=True)
    other_optimizer.load_state_dict(states[0])
    second.load_state_dict(states[1])
    for each, which in ((optimizer, first), (other_optimizer, second)):
        each.step()
        which.after_step()
        which.after_epoch(0.1)
    assert second.lr == first.lr


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("true_weight_decay", [False, True])
def test_the_backbones_rate_keeps_its_ratio(name, true_weight_decay):
    one = with_backbone()
    options = {"weight_decay": 0.3, "true_weight_decay": true_weight_decay}
    optimizer = make_optimizer(one, "AdamW", lr=1e-3, backbone_lr_scale=0.1, **options)
    slow = {id(parameter) for parameter in one["backbone"].parameters()}
    decays = {}
    for group in optimizer.param_groups:
        kinds = {(id(parameter) in slow, parameter.ndim) for parameter in group["params"]}
        decays |= dict.fromkeys(kinds, group["weight_decay"])
    undecayed = 0.0 if true_weight_decay else 0.3
    assert decays == {(s, n): 0.3 if n == 2 else undecayed for s in (False, True) for n in (1, 2)}
    plan = schedule(name, optimizer, epochs=4, step_size=1)
    rates = []
    for epoch in range(4):
        for _ in range(5):
            for group in optimizer.param_groups:
                ratio = 0.1 if id(group["params"][0]) in slow else 1
                assert group["lr"] == pytest.approx(ratio * plan.lr, rel=1e-9)
            rates.append(plan.lr)
            optimizer.step()
            plan.after_step()
        plan.after_epoch(0.5 - epoch)
    assert max(rates) == pytest.approx(1e-3) and min(rates) < 2e-4
