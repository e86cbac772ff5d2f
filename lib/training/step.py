"""The two loops over batches: one epoch of training, and the one stream of predictions.

Shapes: B images, C labels, N patches, M models (raw and EMA, or one).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lib.common.console import progress_bar
from lib.common.errors import UserError
from lib.data.bad_images import Unreadable, refuse
from lib.data.dataset import Batch, num_micro_batches
from lib.data.transforms import Normalizer
from lib.runtime.device import autocast, exact_float32, memory_guard
from lib.runtime.world import World, maybe_no_sync
from lib.training.ema import Ema
from lib.training.losses import LossSum
from lib.training.optim import Schedule
from lib.training.step_log import Progress, Step, StepLog
from models.backbones import freeze_bn_statistics

Criterion = Callable[[Tensor, Tensor, Tensor], LossSum]
OnUnreadable = Callable[[list[Unreadable]], None]


@dataclass
class TrainState:
    """What a training step reads and moves.

    `network` is what the forward goes through: `model`, with the processes of `world` around it.
    """

    model: nn.Module
    network: nn.Module
    ema: Ema
    criterion: Criterion
    lamda: float
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    scaler: torch.amp.GradScaler
    normalizer: Normalizer
    world: World
    amp: bool
    ema_epoch: int
    accum_steps: int = 1
    clip_grad: float | None = None
    recompute: bool = False
    step: int = 0

    def state_dict(self) -> dict[str, Any]:
        """All that the coming steps depend on, as plain types and tensors."""
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take `state_dict` back; other keys are passed over."""
        self.model.load_state_dict(state["model"])
        self.ema.model.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        self.step = state["step"]


class Share(NamedTuple):
    """Of a batch, over all processes: entries that take part in the loss, images that could be
    read, and parts."""

    count: int
    images: int
    parts: int


class Prediction(NamedTuple):
    """One batch: rows `index` (B,), `scores` (M, B, C) on the CPU, `attention` (M, B, C, N)."""

    index: np.ndarray
    scores: np.ndarray
    attention: Tensor


def train_one_epoch(
    learner: TrainState,
    loader: DataLoader,
    progress: Progress,
    log: StepLog,
    after_step: Callable[[], None] = lambda: None,
    unreadable: OnUnreadable = refuse,
) -> float:
    """Train on the batches of the epoch that `progress` has not counted; gives images a second.

    `log` takes each step; `after_step` may save, or end the run; `unreadable` hears of the images
    that could not be read, which take no part, and may raise, as by default. Raises `UserError` for
    a loss or gradient that is not finite, or too little memory.
    """
    learner.model.train()
    images = 0
    start = time.perf_counter()
    with progress_bar(
        loader, f"epoch {progress.epoch + 1}", "batch", initial=progress.batch, leave=False
    ) as batches:
        for batch in batches:
            share = reduce_batch_totals(batch, learner.world, learner.accum_steps, unreadable)
            if not share.images:  # of the whole batch, none could be read
                progress.batch += 1
                continue
            with memory_guard(len(batch.index)):
                step = train_step(learner, batch, share, progress.epoch)
            progress.lr = step.lr
            progress.batch += 1
            images += share.images
            log.add(step)
            speed = images / (time.perf_counter() - start)
            loss = f"loss {progress.loss:.3f}, " if progress.loss_count else ""
            state = f"{loss}lr {progress.lr:.2e}, {speed:.1f} images/s"
            batches.set_postfix_str(state, refresh=progress.batch == len(loader))
            after_step()
    log.read()
    return images / (time.perf_counter() - start)


def reduce_batch_totals(
    batch: Batch, world: World, accum_steps: int, unreadable: OnUnreadable = refuse
) -> Share:
    """What the processes know of a batch together, each holding its share.

    `unreadable` hears in all of them of the images that could not be read.
    """
    errors, count, images = world.sum(
        len(batch.errors), int((~batch.ignore.bool()).sum()), int((batch.index >= 0).sum())
    )
    if errors:
        with world.raise_on_all_ranks():
            unreadable([image for images in world.gather(batch.errors) for image in images])
    return Share(count, images, num_micro_batches(images + errors, accum_steps, world.world_size))


def train_step(learner: TrainState, batch: Batch, share: Share, epoch: int) -> Step:
    """One optimiser step on this process's share of a batch; waits for nothing on the device."""
    learner.optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=learner.world.device)
    for number, part in enumerate(batch.parts(share.parts), 1):
        with maybe_no_sync(learner.network, hold=number < share.parts):
            loss = forward(learner, part)
            # the processes' gradients are averaged: as many times the share's part of the mean
            mean = loss * learner.world.world_size / max(share.count, 1)
            with freeze_bn_statistics(learner.model, learner.recompute):
                learner.scaler.scale(mean).backward()
        total += loss.detach()

    learner.scaler.unscale_(learner.optimizer)
    parameters = [p for p in learner.model.parameters() if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in parameters]).to(total)
    if learner.clip_grad:
        nn.utils.clip_grads_with_norm_(parameters, learner.clip_grad, norm)
    lr = learner.schedule.lr
    learner.scaler.step(learner.optimizer)
    learner.scaler.update()

    # the average follows every step; until ema_epoch it just copies
    learner.world.average_bn_statistics(learner.model, int((batch.index >= 0).sum()))
    learner.ema.update(learner.model, copy_weights=epoch < learner.ema_epoch)
    learner.schedule.after_step()
    learner.step += 1
    return Step(learner.step, epoch, lr, share.count, batch.index, total, norm)


def forward(learner: TrainState, batch: Batch) -> Tensor:
    """The sum, not the mean, of the patch classifier's loss and lamda times the auxiliary object
    classifier's."""
    device = learner.world.device
    images = learner.normalizer(batch.pixels.to(device, non_blocking=True))
    targets = batch.targets.to(device, non_blocking=True)
    ignore = batch.ignore.to(device, non_blocking=True)
    with autocast(device, learner.amp):
        output = learner.network(images)
    patch_loss = learner.criterion(output.logits, targets, ignore)
    object_loss = learner.criterion(output.object_logits, targets, ignore)
    return patch_loss.total + learner.lamda * object_loss.total


def predict(
    models: Sequence[nn.Module],
    loader: DataLoader,
    normalizer: Normalizer,
    device: torch.device,
    amp: bool,
    description: str = "predict",
    unreadable: OnUnreadable = refuse,
) -> Iterator[Prediction]:
    """Yield what every model of `models` says of each batch, over one pass of `loader`.

    The one source of scores and attention for validation, evaluation and inference. Rows come
    with their index in the split; `gather` puts them in order. `unreadable` hears of the images
    that could not be read, which have no rows: it may raise, as by default, or take note of them.
    """
    for model in models:
        model.eval()
    with progress_bar(loader, description, "batch", leave=False) as batches:
        for batch in batches:
            if batch.errors:
                unreadable(batch.errors)
                batch = batch.without_padding()
                if not len(batch.index):
                    continue
            # the mode ends before the yield: what the consumer does is its own
            with torch.inference_mode(), exact_float32(), memory_guard(len(batch.index)):
                images = normalizer(batch.pixels.to(device, non_blocking=True))
                with autocast(device, amp):
                    outputs = [model(images) for model in models]
                scores = torch.stack([output.logits.float().sigmoid() for output in outputs])
                attention = torch.stack([output.attention for output in outputs])
            scores = scores.cpu().numpy()
            if not np.isfinite(scores).all():
                raise UserError(
                    "the model's scores are not finite numbers: its weights have overflowed or are "
                    "damaged; train again with a lower --lr"
                )
            yield Prediction(batch.index.numpy(), scores, attention)


def gather(
    predictions: Iterator[Prediction], shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Merge the scores of a stream by index -> float32 of `shape` (M, rows, C), and which rows
    there were, uint8 (rows,)."""
    scores, read = np.zeros(shape, np.float32), np.zeros(shape[1], np.uint8)
    for prediction in predictions:
        scores[:, prediction.index] = prediction.scores
        read[prediction.index] = 1
    return scores, read
