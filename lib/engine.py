"""The two loops over batches: one epoch of training, and the one stream of predictions.

Shapes: B images, C labels, N patches, M models (raw and EMA, or one).
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lib.dataset import Batch, checked
from lib.device import autocast, exact_float32, memory_guard
from lib.ema import Ema
from lib.errors import UserError
from lib.losses import LossSum
from lib.optim import Schedule
from lib.progress import bar
from lib.transforms import Normalizer

Criterion = Callable[[Tensor, Tensor, Tensor], LossSum]


@dataclass
class Learner:
    """What a training step reads and moves."""

    model: nn.Module
    ema: Ema
    criterion: Criterion
    lamda: float
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    scaler: torch.amp.GradScaler
    normalizer: Normalizer
    device: torch.device
    amp: bool
    ema_epoch: int
    step: int = 0


class EpochResult(NamedTuple):
    """Mean training loss of an epoch, the rate of its last step, and its speed."""

    loss: float
    lr: float
    images_per_second: float


class Prediction(NamedTuple):
    """One batch: rows `index` (B,), `scores` (M, B, C) on the CPU, `attention` (M, B, C, N)."""

    index: np.ndarray
    scores: np.ndarray
    attention: Tensor


def train_one_epoch(
    learner: Learner,
    loader: DataLoader,
    epoch: int,
    on_step: Callable[[int, float, float], None] = lambda step, loss, lr: None,
) -> EpochResult:
    """Train on every batch of `loader`; `epoch` counts from 0.

    `on_step` hears of each step's number, loss and rate. Raises `UserError` for an unreadable
    image, a loss that is not finite (before anything moves), or too little memory.
    """
    learner.model.train()
    total = count = images = lr = 0.0
    start = time.perf_counter()
    with bar(loader, f"epoch {epoch + 1}", "batch", leave=False) as batches:
        for number, batch in enumerate(batches, 1):
            batch = checked(batch)
            lr = learner.schedule.lr
            with memory_guard(len(batch.index)):
                loss_sum, loss_count = train_step(learner, batch, epoch)
            loss = loss_sum / max(loss_count, 1)
            total, count, images = total + loss_sum, count + loss_count, images + len(batch.index)
            speed = images / (time.perf_counter() - start)
            state = f"loss {loss:.3f}, lr {lr:.2e}, {speed:.1f} images/s"
            batches.set_postfix_str(state, refresh=number == len(loader))
            on_step(learner.step, loss, lr)
    return EpochResult(total / max(count, 1), lr, images / (time.perf_counter() - start))


def train_step(learner: Learner, batch: Batch, epoch: int) -> tuple[float, int]:
    """One optimiser step; gives the loss as a sum and the count it is to be divided by."""
    images = learner.normalizer(batch.pixels.to(learner.device, non_blocking=True))
    targets = batch.targets.to(learner.device, non_blocking=True)
    ignore = batch.ignore.to(learner.device, non_blocking=True)

    # forward: the patch classifier's loss, and lamda times the auxiliary object classifier's
    with autocast(learner.device, learner.amp):
        output = learner.model(images)
    patch_loss, count = learner.criterion(output.logits, targets, ignore)
    object_loss, _ = learner.criterion(output.object_logits, targets, ignore)
    total = patch_loss + learner.lamda * object_loss
    value = total.item()
    if not math.isfinite(value):
        remedy = "lower --lr or leave --amp out" if learner.amp else "lower --lr"
        raise UserError(
            f"the loss is {value} in epoch {epoch + 1}, step {learner.step + 1} (lr "
            f"{learner.schedule.lr:.2e}): {remedy}, and check --lamda, the gammas and the label "
            "embeddings for very large numbers"
        )

    # backward and update
    learner.optimizer.zero_grad(set_to_none=True)
    learner.scaler.scale(total / count.clamp(min=1)).backward()
    learner.scaler.step(learner.optimizer)
    learner.scaler.update()

    # the average follows every step; until ema_epoch it just copies
    learner.ema.update(learner.model, copy_weights=epoch < learner.ema_epoch)
    learner.schedule.after_step()
    learner.step += 1
    return value, int(count)


def predict(
    models: Sequence[nn.Module],
    loader: DataLoader,
    normalizer: Normalizer,
    device: torch.device,
    amp: bool,
    description: str = "predict",
) -> Iterator[Prediction]:
    """Yield what every model of `models` says of each batch, over one pass of `loader`.

    The one source of scores and attention for validation, evaluation and inference. Rows come
    with their index in the split; `gather` puts them in order.
    """
    for model in models:
        model.eval()
    with bar(loader, description, "batch", leave=False) as batches:
        for batch in batches:
            batch = checked(batch)
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


def gather(predictions: Iterator[Prediction], shape: tuple[int, int, int]) -> np.ndarray:
    """Merge the scores of a stream by index -> float32 of `shape` (M, rows, C)."""
    scores = np.zeros(shape, np.float32)
    for prediction in predictions:
        scores[:, prediction.index] = prediction.scores
    return scores
