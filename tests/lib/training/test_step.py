"""The training step on a small model, and gradient checkpointing on a real one."""

import copy

import pytest
import timm
import torch

from lib.config import Config
from lib.data.bad_images import BadImages
from lib.data.loader import Shard
from lib.data.workers import Batch
from lib.experiment.network import Normalizer
from lib.runtime.device import grad_scaler
from lib.runtime.world import World
from lib.training.ema import Ema
from lib.training.losses import asymmetric_loss
from lib.training.optim import make_optimizer
from lib.training.prepare import build_run
from lib.training.run import Run, RunState
from lib.training.schedules import make_schedule
from lib.training.step import train_step, training_steps
from tests.helpers.refusals import refused
from tests.helpers.small_model import SmallModel

CPU = torch.device("cpu")
WORLD = World(CPU)


class Learner:
    """A run of a small model, without loaders and a folder."""

    def __init__(self, scaler=None, **flags):
        torch.manual_seed(0)
        model = SmallModel()
        optimizer = make_optimizer(model, "SGD", lr=0.1, weight_decay=0)
        self.state = RunState(
            model,
            Ema(model, 0.5),
            optimizer,
            make_schedule("StepLR", optimizer, lr=0.1, total_steps=1),
            scaler or grad_scaler(CPU, False),
            BadImages(),
        )
        preprocess = Normalizer((0, 0, 0), (1, 1, 1), CPU)
        config = Config(**{"lamda": 0.5, **flags})
        self.run = Run(config, WORLD, ["a", "b"], model, preprocess, asymmetric_loss, self.state)
        self.model, self.ema = model, self.state.ema


def batch(count=4):
    random = torch.Generator().manual_seed(1)
    return Batch(
        torch.randint(0, 256, (count, 3, 4, 4), dtype=torch.uint8, generator=random),
        torch.randint(0, 2, (count, 2), generator=random).float(),
        torch.tensor([[False, True]]).expand(count, 2),
        torch.arange(count),
        [],
    )


def shard(data, accum_steps=1):
    entries, images = int((~data.ignore).sum()), int((data.rows >= 0).sum())
    return Shard(0, data, entries, images, accum_steps)


def step(one, data, epoch):
    """A step on `data`: the sum of its loss, and the number of entries to divide it by."""
    one.state.epoch = epoch
    done = train_step(one.run, shard(data, one.run.config.accum_steps))
    return done.loss_sum.item(), done.num_entries


def test_loss_is_the_patch_loss_and_lamda_times_the_object_loss():
    one, data = Learner(lamda=0.25), batch()
    output = one.model(data.inputs.float() / 255)
    patch, count = asymmetric_loss(output.logits, data.targets, data.ignore)
    auxiliary, _ = asymmetric_loss(output.object_logits, data.targets, data.ignore)
    value, found = step(one, data, epoch=0)
    assert found == count == 4
    assert value == pytest.approx((patch + 0.25 * auxiliary).item(), rel=1e-6)


def test_step_moves_model_and_average():
    one = Learner()
    before = one.model.main.weight.clone()
    step(one, batch(), epoch=0)
    moved = one.model.main.weight - before
    assert moved.abs().max() > 0 and one.state.step == 1
    torch.testing.assert_close(one.ema.model.main.weight, before + 0.5 * moved)


def test_average_copies_until_its_epoch():
    one = Learner(ema_epoch=1)
    step(one, batch(), epoch=0)
    assert torch.equal(one.ema.model.main.weight, one.model.main.weight)
    step(one, batch(), epoch=1)
    assert not torch.equal(one.ema.model.main.weight, one.model.main.weight)


def test_loss_scaling_lives_as_long_as_the_run():
    """A scaler made again each epoch would never reach its second growth."""
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)
    one = Learner(scaler=scaler)
    for epoch in range(2):
        step(one, batch(), epoch)
    assert scaler.get_scale() == 8.0


@pytest.mark.parametrize("accum_steps", [1, 3])
def test_what_is_unknown_moves_nothing(accum_steps):
    """Unknown entries, unevenly spread over the parts of a batch: their targets do not matter, and
    the step is that of the entries that are known."""
    random = torch.Generator().manual_seed(2)
    ignore = torch.rand(7, 2, generator=random) < 0.4
    ignore[0] = True
    moved = []
    for flip in (False, True):
        one, data = Learner(accum_steps=accum_steps), batch(7)
        targets = torch.where(ignore & flip, 1 - data.targets, data.targets)
        data = data._replace(ignore=ignore, targets=targets)
        moved.append((step(one, data, epoch=0), one.model.state_dict(), one.ema.model.state_dict()))
    assert moved[0][0] == moved[1][0] and moved[0][0][1] == int((~ignore).sum())
    for one, other in zip(moved[0][1:], moved[1][1:], strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    whole, data = Learner(), batch(7)._replace(ignore=ignore)
    step(whole, data, epoch=0)
    torch.testing.assert_close(whole.model.main.weight, moved[0][1]["main.weight"])
    assert step(whole, data._replace(ignore=torch.ones(7, 2).bool()), epoch=0) == (0.0, 0)


def test_a_batch_in_parts_gives_the_gradient_of_the_whole():
    """Entries are averaged over the batch, however many of a part take part."""
    data = batch(5)
    data = data._replace(ignore=torch.rand(5, 2, generator=torch.Generator().manual_seed(3)) < 0.4)
    whole, parts = Learner(), Learner(accum_steps=3)
    values = [step(one, data, epoch=0) for one in (whole, parts)]
    assert values[0] == pytest.approx(values[1], rel=1e-6) and 0 < values[0][1] < 10
    for expected, found in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(found, expected)
    assert parts.state.step == 1 and not torch.equal(
        parts.model.main.weight, Learner().model.main.weight
    )


def test_gradients_are_clipped_to_a_norm():
    one, before = Learner(clip_grad=0.5), Learner().model.state_dict()
    done = train_step(one.run, shard(batch()))
    gradients = [p.grad for p in one.model.parameters()]
    assert torch.cat([each.flatten() for each in gradients]).norm().item() == pytest.approx(0.5)
    assert done.grad_norm.item() > 1  # before clipping
    moved = [value - before[name] for name, value in one.model.state_dict().items()]
    # a first step of SGD is the rate times the gradient
    norm = torch.cat([change.flatten() for change in moved]).norm() / 0.1
    assert norm.item() == pytest.approx(0.5, rel=1e-3)


def test_training_resumes_from_its_state():
    one, other = Learner(), Learner()
    step(one, batch(), epoch=0)
    other.state.load_state_dict(copy.deepcopy(one.state.state_dict()))
    for each in (one, other):
        step(each, batch(), epoch=0)
    assert other.state.step == 2
    for name, value in one.model.state_dict().items():
        assert torch.equal(other.model.state_dict()[name], value)
        assert torch.equal(other.ema.model.state_dict()[name], one.ema.model.state_dict()[name])


@pytest.mark.parametrize("scaled", [False, True])
def test_training_resumes_in_another_precision(scaled):
    """bfloat16 needs no loss scale, float16 does: a device with the other one goes on."""
    one, other = (
        Learner(scaler=torch.amp.GradScaler("cpu", enabled=enabled))
        for enabled in (scaled, not scaled)
    )
    step(one, batch(), epoch=0)
    other.state.load_state_dict(copy.deepcopy(one.state.state_dict()))
    step(other, batch(), epoch=0)
    assert other.state.step == 2 and other.state.scaler.is_enabled() is not scaled


def test_an_epoch_yields_its_steps_and_skips_unreadable_batches():
    one, unread = Learner(), batch()._replace(rows=torch.full((4,), -1))
    shards = [shard(batch()), shard(unread)._replace(number=1), shard(batch())._replace(number=2)]
    one.state.epoch = 3
    steps = list(training_steps(one.run, shards))
    assert [(done.number, done.epoch, done.batch) for done in steps] == [(1, 3, 0), (2, 3, 2)]
    assert [done.num_images for done in steps] == [4, 4] and one.state.step == 2


def trained(**flags):
    """State after two steps of a real network with dropout, and how much the forward kept."""
    config = Config(
        arch=flags.pop("arch", "test_resnet"),
        weights="none",
        embed_type="random",
        img_size=64,
        **flags,
    )
    torch.manual_seed(0)
    one = build_run(config, ["a", "b"], None, WORLD, steps_per_epoch=9)
    one.state.model.train()
    data = batch()._replace(inputs=torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8))
    kept = {}

    def keep(tensor):
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    for _ in range(2):
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            train_step(one, shard(data))
    weights = {**one.state.model.state_dict(), **one.state.ema.state_dict()}
    return weights, sum(kept.values())


@pytest.mark.parametrize("arch", ["test_resnet", "test_vit"])
def test_gradient_checkpointing_changes_no_number(arch):
    """Neither weights nor running statistics, which a second forward would update again."""
    plain, kept = trained(arch=arch)
    again, kept_less = trained(arch=arch, grad_checkpointing=True)
    assert kept_less < kept
    assert all(torch.equal(again[name], value) for name, value in plain.items())


def test_gradient_checkpointing_keeps_the_statistics_of_sync_batch_norm(monkeypatch):
    """Which several GPUs have; alone and on a CPU it normalises as BatchNorm does."""
    plain, _ = trained()
    convert = timm.layers.convert_sync_batchnorm
    monkeypatch.setattr(World, "convert_sync_bn", lambda world, model: convert(model))
    again, _ = trained(grad_checkpointing=True)
    assert all(torch.equal(again[name], value) for name, value in plain.items())


def test_gradient_checkpointing_is_refused_where_it_is_not_supported(monkeypatch):
    monkeypatch.delattr("timm.models.resnet.ResNet.set_grad_checkpointing")
    with refused("--grad-checkpointing", "test_resnet"):
        trained(grad_checkpointing=True)
