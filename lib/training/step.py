"""One optimiser step, and an epoch as a generator of steps.

To be read from top to bottom. What it calls: the network (`models/heads/mlic.py`), the loss
(`lib/training/losses.py`), the optimiser and its schedule (`optim.py`, `schedules.py`).

Shapes: B images of this rank's shard, C labels.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lib.data.loader import Shard
from lib.data.workers import Batch
from lib.runtime.device import autocast, memory_guard
from lib.runtime.world import maybe_no_sync
from lib.training.losses import objective
from lib.training.optim import trained_parameters
from lib.training.run import Run
from models.backbones import freeze_bn_statistics


class Step(NamedTuple):
    """An optimiser step: its `number` from 1, its `epoch` and the number of its `batch` from 0.

    `num_images` and `num_entries` are those of all ranks: readable images, and the (image, label)
    entries over which the loss is averaged. This rank's own are the `rows` (B,) of its images, -1
    for padding, and, still on the device, its part of the loss's sum; `grad_norm` is that of the
    gradient before clipping.
    """

    number: int
    epoch: int
    batch: int
    lr: float
    num_images: int
    num_entries: int
    rows: Tensor
    loss_sum: Tensor
    grad_norm: Tensor


def training_steps(run: Run, shards: Iterable[Shard]) -> Iterator[Step]:
    """Train on the batches of the current epoch; yields each step once it is done.

    A batch of which no image can be read is skipped. Raises `UserError` for too little memory.
    """
    run.state.model.train()
    for shard in shards:
        if shard.num_images:
            images = -(-len(shard.batch.rows) // shard.num_micro_batches)
            with memory_guard(
                f"at --batch-size {run.config.batch_size}, with {images} images at once on this "
                "device",
                "lower --batch-size or --img-size, or train with --amp, --accum-steps or "
                "--grad-checkpointing",
            ):
                step = train_step(run, shard)
            yield step


def train_step(run: Run, shard: Shard) -> Step:
    """One optimiser step on this rank's shard of a batch; does not wait for the device."""
    config, world, state, model = run.config, run.world, run.state, run.state.model

    # gradients, accumulated over micro-batches. DistributedDataParallel averages gradients over
    # the ranks, while the loss is a mean over the entries of all ranks: hence the factor.
    state.optimizer.zero_grad(set_to_none=True)
    loss_sum = torch.zeros((), device=world.device)
    for number, micro_batch in enumerate(shard.batch.micro_batches(shard.num_micro_batches), 1):
        with maybe_no_sync(run.network, active=number < shard.num_micro_batches):
            loss = forward_loss(run, micro_batch)
            mean = loss * world.world_size / max(shard.num_entries, 1)
            with freeze_bn_statistics(model, config.grad_checkpointing):
                state.scaler.scale(mean).backward()
        loss_sum += loss.detach()

    # gradient clipping
    state.scaler.unscale_(state.optimizer)
    grads = [p.grad for _, p in trained_parameters(model) if p.grad is not None]
    grad_norm = nn.utils.get_total_norm(grads).to(loss_sum)
    if config.clip_grad:
        nn.utils.clip_grads_with_norm_(model.parameters(), config.clip_grad, grad_norm)

    # optimiser; with float16 the scaler skips the step if a gradient is not finite
    lr = state.schedule.lr
    state.scaler.step(state.optimizer)
    state.scaler.update()

    # EMA of the whole state, after every step; until --ema-epoch it copies the weights
    world.average_bn_statistics(model, int((shard.batch.rows >= 0).sum()))
    state.ema.update(model, copy_weights=state.epoch < config.ema_epoch)

    # schedule
    state.schedule.after_step()
    state.step += 1
    return Step(
        number=state.step,
        epoch=state.epoch,
        batch=shard.number,
        lr=lr,
        num_images=shard.num_images,
        num_entries=shard.num_entries,
        rows=shard.batch.rows,
        loss_sum=loss_sum,
        grad_norm=grad_norm,
    )


def forward_loss(run: Run, batch: Batch) -> Tensor:
    """The loss summed over a batch: see `objective`."""
    device = run.world.device
    inputs = run.preprocess(batch.inputs.to(device, non_blocking=True))
    targets = batch.targets.to(device, non_blocking=True).float()
    ignore = batch.ignore.to(device, non_blocking=True)
    with autocast(device, run.config.amp):
        output = run.network(inputs)
    return objective(run.loss, output, targets, ignore, run.config.lamda).total
