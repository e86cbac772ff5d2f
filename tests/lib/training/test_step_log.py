"""Steps that are read together: what reaches progress and TensorBoard, and what ends a run."""

import math

import pytest
import torch

from lib.runtime.world import World
from lib.training.run import RunState
from lib.training.step import Step
from lib.training.step_log import MAX_SKIPPED_IN_A_ROW, READ_EVERY, StepLog
from tests.helpers.refusals import refused

WORLD = World(torch.device("cpu"))
PATHS = [f"{row}.jpg" for row in range(9)]


class Board:
    """Keeps the losses that TensorBoard would write."""

    def __init__(self):
        self.losses = []

    def add_scalar(self, name, value, number):
        if name == "train/loss":
            self.losses.append((number, value))


def make_log(**options):
    state = RunState(*6 * [None])
    return StepLog(WORLD, state, PATHS, Board(), **options)


def step(number, loss_sum=6.0, norm=1.0, rows=(3, -1, 5)):
    tensors = torch.tensor(rows), torch.tensor(loss_sum), torch.tensor(norm)
    return Step(number, 1, number + 2, 1e-3, 2, 4, *tensors)


def test_steps_are_read_together_and_in_order():
    log = make_log()
    for number in range(1, READ_EVERY):
        log.add(step(number, loss_sum=float(number)))
    assert not log.board.losses and log.state.loss_count == 0
    log.add(step(READ_EVERY, loss_sum=float(READ_EVERY)))
    assert log.board.losses == [(number, number / 4) for number in range(1, READ_EVERY + 1)]
    assert log.state.loss == pytest.approx((READ_EVERY + 1) / 2 / 4)
    assert (log.state.lr, log.state.batch) == (1e-3, READ_EVERY + 3)
    log.add(step(READ_EVERY + 1))
    log.read()
    log.read()
    assert len(log.board.losses) == READ_EVERY + 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_or_gradient_that_is_not_finite_names_the_first_step_and_its_images(value):
    log = make_log()
    log.add(step(6))
    log.add(step(7, loss_sum=value))
    log.add(step(8, loss_sum=value, rows=(0,)))
    with refused(None, f"loss is {value} in epoch 2, step 7 (lr 1.00e-03)", ": 3.jpg, 5.jpg"):
        log.read()
    log = make_log()
    log.add(step(2, norm=value, rows=range(9)))
    images = "0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg and 4 more"
    with refused(None, f"norm is {value} in epoch 2, step 2 ", images):
        log.read()


def test_what_loss_scaling_skips_is_counted():
    log = make_log(scaled=True)
    for number, norm in enumerate((math.inf, 1.0, math.nan), 1):
        log.add(step(number, norm=norm))
    log.read()
    assert log.state.skipped_steps == 2 and log.state.loss_count == 12
    log.state.begin_epoch(2)
    assert log.state.skipped_steps == 0


def test_steps_that_are_all_skipped_end_the_run():
    log = make_log(scaled=True)
    with refused(None, f"norm is nan in epoch 2, step {MAX_SKIPPED_IN_A_ROW + 1} "):
        for number in range(MAX_SKIPPED_IN_A_ROW + READ_EVERY):
            log.add(step(number, norm=1.0 if number == 1 else math.nan))
