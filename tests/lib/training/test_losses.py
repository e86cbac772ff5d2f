"""Losses against the goldens and their literal twin."""

import numpy as np
import pytest
import torch

from lib.training.losses import asymmetric_loss, binary_cross_entropy, make_loss
from tests.helpers import goldens
from tests.helpers.twins import literal_asl

SETTINGS = [(0.0, 2.0, 0.0), (1.0, 4.0, 0.05), (0.0, 0.0, 0.3), (2.5, 0.5, 1.0)]


def random_case(seed=0):
    random = np.random.default_rng(seed)
    logits = random.normal(0, 6, (7, 5))
    return logits, (random.random((7, 5)) < 0.4).astype(float), random.random((7, 5)) < 0.3


def test_parity_asl():
    small = goldens.arrays("small")
    cases = sorted({name.split(".")[1] for name in small if name.startswith("asl.")})
    assert cases
    for case in cases:
        params, x, y, loss, grad = (
            small[f"asl.{case}.{part}"] for part in ("params", "x", "y", "loss", "grad")
        )
        gamma_neg, gamma_pos, clip = params.tolist()
        logits = torch.from_numpy(x).requires_grad_()
        total, count = asymmetric_loss(
            logits, torch.from_numpy(y), gamma_pos=gamma_pos, gamma_neg=gamma_neg, clip=clip
        )
        (total / count).backward()
        assert (total / count).item() == pytest.approx(float(loss), rel=1e-5)
        np.testing.assert_allclose(logits.grad, grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("setting", SETTINGS)
def test_asl_matches_the_twin(setting):
    gamma_pos, gamma_neg, clip = setting
    logits, targets, ignore = random_case()
    total, count = asymmetric_loss(
        *map(torch.from_numpy, (logits, targets, ignore)),
        gamma_pos=gamma_pos,
        gamma_neg=gamma_neg,
        clip=clip,
    )
    expected, expected_count = literal_asl(logits, targets, ignore, *setting)
    assert count.item() == expected_count
    assert total.item() == pytest.approx(expected, rel=1e-4)


def test_no_gradient_flows_through_the_weight():
    """The gradient is the weight times that of the likelihood alone."""
    logits = torch.tensor([[0.3]], requires_grad=True)
    asymmetric_loss(logits, torch.zeros(1, 1), gamma_neg=2).total.backward()
    p = torch.sigmoid(torch.tensor(0.3))
    assert logits.grad.item() == pytest.approx((1000 * p**2 * p).item(), rel=1e-5)


@pytest.mark.parametrize("loss", [asymmetric_loss, binary_cross_entropy])
def test_ignored_entries_take_no_part(loss):
    logits, targets, ignore = map(torch.from_numpy, random_case(1))
    logits = logits.float().requires_grad_()
    total, count = loss(logits, targets, ignore)
    total.backward()
    assert count == (~ignore).sum()
    assert not logits.grad[ignore].any() and logits.grad[~ignore].any()
    changed = torch.where(ignore, -logits, logits)
    torch.testing.assert_close(loss(changed, targets, ignore).total, total)


@pytest.mark.parametrize("loss", [asymmetric_loss, binary_cross_entropy])
def test_sums_of_parts_add_up(loss):
    logits, targets, ignore = map(torch.from_numpy, random_case(2))
    whole = loss(logits, targets, ignore)
    parts = [loss(logits[rows], targets[rows], ignore[rows]) for rows in (slice(3), slice(3, None))]
    torch.testing.assert_close(sum(part.total for part in parts), whole.total)
    assert sum(part.num_entries for part in parts) == whole.num_entries


def test_losses_are_computed_in_float32():
    logits = torch.tensor([[9.0, -9.0]], dtype=torch.float16)
    assert asymmetric_loss(logits, torch.ones(1, 2)).total.dtype == torch.float32
    assert binary_cross_entropy(logits, torch.ones(1, 2)).total.dtype == torch.float32


def test_bce_is_the_mean_of_its_entries():
    logits, targets, _ = map(torch.from_numpy, random_case(3))
    total, count = binary_cross_entropy(logits, targets)
    p = torch.sigmoid(logits)
    expected = -(targets * p.log() + (1 - targets) * (1 - p).log()).mean()
    assert (total / count).item() == pytest.approx(expected.item(), rel=1e-4)


def test_a_loss_takes_the_settings_that_it_names():
    settings = {"gamma_pos": 1.0, "gamma_neg": 3.0, "clip": 0.1, "lr": 7}
    logits, targets = torch.randn(4, 3), torch.ones(4, 3)
    expected = asymmetric_loss(logits, targets, gamma_pos=1, gamma_neg=3, clip=0.1)
    assert make_loss("asl", settings)(logits, targets, None).total == expected.total
    expected = binary_cross_entropy(logits, targets)
    assert make_loss("bce", settings)(logits, targets, None).total == expected.total
