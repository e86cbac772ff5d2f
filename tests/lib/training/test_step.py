"""The training step and the prediction stream on a small model."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lib.common.errors import UserError
from lib.config import Config
from lib.data.dataset import (
    Batch,
    EvaluationBatches,
    ImageDataset,
    Unreadable,
    evaluation_view,
    make_loader,
)
from lib.data.folder import Split
from lib.data.transforms import Normalizer
from lib.experiment.network import build_train_state
from lib.runtime.device import grad_scaler
from lib.runtime.world import World
from lib.training.ema import Ema
from lib.training.losses import asymmetric_loss
from lib.training.optim import Schedule, make_optimizer
from lib.training.step import TrainState, gather, predict, reduce_batch_totals, train_step
from models.mlic import Output

CPU = torch.device("cpu")
WORLD = World(CPU)


class Small(nn.Module):
    """Two linear classifiers on the mean colour; attention over four patches."""

    def __init__(self):
        super().__init__()
        self.main, self.auxiliary = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, images):
        colors = images.mean(dim=(2, 3))
        attention = torch.softmax(images.flatten(2)[:, :2, :4], dim=-1)
        return Output(self.main(colors), self.auxiliary(colors), attention)


def learner(lamda=0.5, **options):
    torch.manual_seed(0)
    model = Small()
    optimizer = make_optimizer(model, "SGD", lr=0.1, weight_decay=0)
    return TrainState(
        model=model,
        network=model,
        ema=Ema(model, 0.5),
        criterion=asymmetric_loss,
        lamda=lamda,
        optimizer=optimizer,
        schedule=Schedule("StepLR", optimizer, lr=0.1, epochs=1, steps_per_epoch=1),
        normalizer=Normalizer((0, 0, 0), (1, 1, 1), CPU),
        world=WORLD,
        amp=False,
        **{"ema_epoch": 0, "scaler": grad_scaler(CPU, False), **options},
    )


def batch(count=4):
    random = torch.Generator().manual_seed(1)
    return Batch(
        torch.randint(0, 256, (count, 3, 4, 4), dtype=torch.uint8, generator=random),
        torch.randint(0, 2, (count, 2), generator=random).float(),
        torch.tensor([[False, True]]).expand(count, 2),
        torch.arange(count),
        [],
    )


def step(one, data, epoch):
    """A step on `data`, and the count that its loss is to be divided by."""
    share = reduce_batch_totals(data, WORLD, one.accum_steps)
    done = train_step(one, data, share, epoch)
    return done.loss_sum.item(), done.count


def test_loss_is_the_patch_loss_and_lamda_times_the_object_loss():
    one, data = learner(lamda=0.25), batch()
    output = one.model(data.pixels.float() / 255)
    patch, count = asymmetric_loss(output.logits, data.targets, data.ignore)
    auxiliary, _ = asymmetric_loss(output.object_logits, data.targets, data.ignore)
    value, found = step(one, data, epoch=0)
    assert found == count == 4
    assert value == pytest.approx((patch + 0.25 * auxiliary).item(), rel=1e-6)


def test_step_moves_model_and_average():
    one = learner()
    before = one.model.main.weight.clone()
    step(one, batch(), epoch=0)
    moved = one.model.main.weight - before
    assert moved.abs().max() > 0 and one.step == 1
    torch.testing.assert_close(one.ema.model.main.weight, before + 0.5 * moved)


def test_average_copies_until_its_epoch():
    one = learner(ema_epoch=1)
    step(one, batch(), epoch=0)
    assert torch.equal(one.ema.model.main.weight, one.model.main.weight)
    step(one, batch(), epoch=1)
    assert not torch.equal(one.ema.model.main.weight, one.model.main.weight)


def test_loss_scaling_lives_as_long_as_the_run():
    """A scaler made anew each epoch would never reach its second growth."""
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)
    one = learner(scaler=scaler)
    for epoch in range(2):
        step(one, batch(), epoch)
    assert scaler.get_scale() == 8.0


def test_a_batch_of_unknown_labels_gives_no_loss():
    one = learner()
    data = batch()._replace(ignore=torch.ones(4, 2, dtype=torch.bool))
    assert step(one, data, epoch=0) == (0.0, 0)


@pytest.mark.parametrize("accum_steps", [1, 3])
def test_what_is_unknown_moves_nothing(accum_steps):
    """Unknown entries, unevenly spread over the parts of a batch: their targets do not matter, and
    the step is that of the entries that are known."""
    random = torch.Generator().manual_seed(2)
    ignore = torch.rand(7, 2, generator=random) < 0.4
    ignore[0] = True
    moved = []
    for flip in (False, True):
        one, data = learner(accum_steps=accum_steps), batch(7)
        targets = torch.where(ignore & flip, 1 - data.targets, data.targets)
        data = data._replace(ignore=ignore, targets=targets)
        moved.append((step(one, data, epoch=0), one.model.state_dict(), one.ema.model.state_dict()))
    assert moved[0][0] == moved[1][0] and moved[0][0][1] == int((~ignore).sum())
    for one, other in zip(moved[0][1:], moved[1][1:], strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    whole, data = learner(), batch(7)._replace(ignore=ignore)
    step(whole, data, epoch=0)
    torch.testing.assert_close(whole.model.main.weight, moved[0][1]["main.weight"])


def test_memory_errors_say_what_to_lower(monkeypatch):
    from lib.runtime.device import memory_guard

    with pytest.raises(UserError, match="out of GPU memory at --batch-size 7: lower"):
        with memory_guard(7):
            raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.fixture
def loader(tmp_path):
    random = np.random.default_rng(0)
    paths = []
    for index in range(5):
        paths.append(str(tmp_path / f"{index}.png"))
        Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(paths[-1])
    split = Split("test", paths, np.zeros((5, 2), np.uint8), np.zeros((5, 2), bool))
    dataset = ImageDataset(split, partial(evaluation_view, size=4))
    return make_loader(dataset, EvaluationBatches(5, 2), 0, CPU)


def test_predictions_of_several_models_come_from_one_pass(loader):
    models = [Small(), Small()]
    normalizer = Normalizer((0, 0, 0), (1, 1, 1), CPU)
    stream = list(predict(models, loader, normalizer, CPU, amp=False))
    assert [prediction.index.tolist() for prediction in stream] == [[0, 1], [2, 3], [4]]
    assert stream[0].attention.shape == (2, 2, 2, 4)
    scores, read = gather(iter(stream), (2, 5, 2))
    assert read.tolist() == [1] * 5
    for batch, prediction in zip(loader, stream, strict=True):
        for which, model in enumerate(models):
            expected = model(batch.pixels.float() / 255).logits.sigmoid().detach()
            np.testing.assert_allclose(scores[which, prediction.index], expected, rtol=1e-6)


def test_unreadable_images_end_the_stream_or_are_noted(loader):
    """Row 1 shares its batch with one that can be read; row 4 has a batch of its own."""
    paths = loader.dataset.split.paths
    for row in (1, 4):
        with open(paths[row], "wb") as file:
            file.write(b"no picture")
    normalizer = Normalizer((0, 0, 0), (1, 1, 1), CPU)
    flags = ([Small()], loader, normalizer, CPU, False)
    with pytest.raises(UserError, match=f"{paths[1]}: not a readable image"):
        list(predict(*flags))
    noted = []
    stream = predict(*flags, unreadable=noted.extend)
    assert [prediction.index.tolist() for prediction in stream] == [[0], [2, 3]]
    assert [image.index for image in noted] == [1, 4] and paths[4] in noted[1].reason


def test_predictions_are_made_in_full_float32(loader, monkeypatch):
    """PyTorch's default lets CUDA's convolutions round to TF32; training keeps it."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    torch.backends.cuda.matmul.allow_tf32 = True  # monkeypatch cannot undo this one
    seen = []

    class Watching(Small):
        def forward(self, images):
            seen.append(torch.backends.cudnn.allow_tf32)
            seen.append(torch.backends.cuda.matmul.allow_tf32)
            return super().forward(images)

    normalizer = Normalizer((0, 0, 0), (1, 1, 1), CPU)
    list(predict([Watching()], loader, normalizer, CPU, False))
    assert seen and not any(seen) and torch.backends.cudnn.allow_tf32
    assert torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False


def test_rows_are_merged_by_index(loader):
    stream = list(predict([Small()], loader, Normalizer((0,) * 3, (1,) * 3, CPU), CPU, amp=False))
    ordered, _ = gather(iter(stream), (1, 5, 2))
    np.testing.assert_array_equal(gather(iter(stream[::-1]), (1, 5, 2))[0], ordered)


def test_a_batch_in_parts_gives_the_gradient_of_the_whole():
    """Entries are averaged over the batch, however many of a part take part."""
    data = batch(5)
    data = data._replace(ignore=torch.rand(5, 2, generator=torch.Generator().manual_seed(3)) < 0.4)
    whole, parts = learner(), learner(accum_steps=3)
    values = [step(one, data, epoch=0) for one in (whole, parts)]
    assert values[0] == pytest.approx(values[1], rel=1e-6) and 0 < values[0][1] < 10
    for expected, found in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(found, expected)
    assert parts.step == 1 and not torch.equal(parts.model.main.weight, learner().model.main.weight)


def test_gradients_are_clipped_to_a_norm():
    one, before = learner(clip_grad=0.5), learner().model.state_dict()
    done = train_step(one, batch(), reduce_batch_totals(batch(), WORLD, 1), epoch=0)
    gradients = [p.grad for p in one.model.parameters()]
    assert torch.cat([each.flatten() for each in gradients]).norm().item() == pytest.approx(0.5)
    assert done.gradient_norm.item() > 1  # before clipping
    moved = [value - before[name] for name, value in one.model.state_dict().items()]
    # a first step of SGD is the rate times the gradient
    norm = torch.cat([change.flatten() for change in moved]).norm() / 0.1
    assert norm.item() == pytest.approx(0.5, rel=1e-3)


def test_learner_goes_on_from_its_state():
    one, other = learner(), learner()
    step(one, batch(), epoch=0)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for each in (one, other):
        step(each, batch(), epoch=0)
    assert other.step == 2
    for name, value in one.model.state_dict().items():
        assert torch.equal(other.model.state_dict()[name], value)
        assert torch.equal(other.ema.model.state_dict()[name], one.ema.model.state_dict()[name])


def test_an_unreadable_image_ends_the_step():
    with pytest.raises(UserError, match="a.jpg: not a picture"):
        step(learner(), batch()._replace(errors=[Unreadable(0, "a.jpg: not a picture")]), epoch=0)


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
    one = build_train_state(config, ["a", "b"], None, world=WORLD, steps_per_epoch=9)
    one.model.train()
    data = batch()._replace(pixels=torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8))
    kept = {}

    def keep(tensor):
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    for _ in range(2):
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            step(one, data, epoch=0)
    return {**one.model.state_dict(), **one.ema.model.state_dict()}, sum(kept.values())


@pytest.mark.parametrize("arch", ["test_resnet", "test_vit"])
def test_activations_that_are_computed_again_change_nothing(arch):
    """Neither weights nor running statistics, which a second forward would move once more."""
    plain, kept = trained(arch=arch)
    again, kept_less = trained(arch=arch, checkpoint_backbone=True)
    assert kept_less < kept
    assert all(torch.equal(again[name], value) for name, value in plain.items())


def test_activations_cannot_be_computed_again_everywhere(monkeypatch):
    monkeypatch.delattr("timm.models.resnet.ResNet.set_grad_checkpointing")
    with pytest.raises(UserError, match="--checkpoint-backbone: test_resnet cannot"):
        trained(checkpoint_backbone=True)
