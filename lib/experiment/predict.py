"""The one stream of predictions, for validation, evaluation, inference and reports.

Shapes: B images, C labels, N patches, M models (raw and EMA, or one), R rows of a split.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lib.common.console import progress_bar
from lib.common.errors import UserError
from lib.data.loader import EvaluationLoader
from lib.runtime.device import autocast, exact_float32, memory_guard
from models.output import Output


class Prediction(NamedTuple):
    """One batch: its `rows` (B,) in the split, `scores` (M, B, C) in [0, 1] on the CPU, and the
    models' `outputs`, M of them, on the device."""

    rows: np.ndarray
    scores: np.ndarray
    outputs: list[Output]


def predict(
    models: Sequence[nn.Module],
    loader: EvaluationLoader,
    preprocess: Callable[[Tensor], Tensor],
    device: torch.device,
    amp: bool,
    *,
    exact: bool = True,
    description: str = "predict",
    remedy: str = "lower --batch-size",
) -> Iterator[Prediction]:
    """Yield what every model predicts for each batch, over one pass of `loader`.

    Outside of mixed precision products are `exact`, or as training computes them. Raises
    `UserError` for scores that are not finite, and with the `remedy` for too little memory.
    """
    for model in models:
        model.eval()
    with progress_bar(loader, description, "batch", leave=False) as batches:
        for batch in batches:
            # these end before the yield: they must not apply to the consumer's code
            with (
                torch.inference_mode(),
                exact_float32() if exact else contextlib.nullcontext(),
                memory_guard(f"with {len(batch.rows)} images at once", remedy),
            ):
                images = preprocess(batch.inputs.to(device, non_blocking=True))
                with autocast(device, amp):
                    outputs = [model(images) for model in models]
                logits = torch.stack([output.logits for output in outputs])
                scores = scores_of(logits)
            yield Prediction(batch.rows.numpy(), scores, outputs)


def scores_of(logits: Tensor) -> np.ndarray:
    """Logits of any shape -> scores in [0, 1] on the CPU. Raises `UserError` unless all are finite
    numbers."""
    scores = logits.float().sigmoid().cpu().numpy()
    if not np.isfinite(scores).all():
        raise UserError(
            "the model's scores are not finite numbers: its weights have overflowed or are "
            "damaged; train again with a lower --lr"
        )
    return scores


def collect_scores(
    predictions: Iterable[Prediction], shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a stream in file order, float32 of `shape` (M, R, C), and which rows were read,
    uint8 (R,); the rows of other ranks are 0."""
    scores, read = np.zeros(shape, np.float32), np.zeros(shape[1], np.uint8)
    for prediction in predictions:
        scores[:, prediction.rows] = prediction.scores
        read[prediction.rows] = 1
    return scores, read
