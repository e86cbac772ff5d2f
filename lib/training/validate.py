"""Validation: every metric of an epoch, for the raw and the EMA model, or the EMA model alone, over
one pass.

Shapes: B images, C labels, R rows of the split.
"""

import copy
import itertools
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from lib.common.signals import StopRequest
from lib.data.bad_images import ignore_unread
from lib.experiment.network import prepare_for_inference
from lib.experiment.predict import Prediction, collect_scores, predict
from lib.runtime.device import memory_guard
from lib.scoring.metrics import EPOCH_METRICS
from lib.training.losses import objective
from lib.training.run import Run


def validate(run: Run, stop: StopRequest) -> dict[str, float]:
    """The metrics of `EPOCH_METRICS` and `val_loss` of the raw model, unless `--validate ema`, and
    the same with `_ema`.

    Ends early after a signal; the caller must then leave before it uses them.
    """
    split, config, world = run.validation_loader.split, run.config, run.world
    scored = {"_ema": run.state.ema.model}  # by the suffix of its metrics
    if config.validate == "both":
        scored = {"": run.state.model} | scored
    fewer = "pass --validate ema, or " if config.validate == "both" else ""
    with memory_guard("for the copies that are validated", f"{fewer}choose a smaller --arch"):
        quick = [
            prepare_for_inference(copy.deepcopy(model), config.img_size)
            for model in scored.values()
        ]
    models: list[nn.Module] = [one.head if config.cache_features else one for one in quick]
    losses = np.zeros((len(models), 2))  # sum and number of entries
    stream = predict(
        models,
        run.validation_loader,
        run.preprocess,
        world.device,
        config.amp,
        exact=False,
        description="validate",
        remedy=f"{fewer}lower --batch-size",
    )
    stream = itertools.takewhile(lambda _: not stop.signum, _measure_losses(run, stream, losses))
    scores, read = collect_scores(stream, (len(models), *split.shape))
    if any(world.sum(int(bool(stop.signum)))):
        return {}
    run.state.bad_images.merge_ranks(world)
    world.merge_(scores, read)
    world.sum_(torch.from_numpy(losses))
    targets, ignore = ignore_unread(split, read).dense()
    metrics = {}
    for suffix, model_scores, (total, entries) in zip(scored, scores, losses, strict=True):
        for name, metric in EPOCH_METRICS.items():
            metrics[name + suffix] = metric(model_scores, targets, ignore)
        metrics[f"val_loss{suffix}"] = float(total / max(entries, 1))
    return metrics


def _measure_losses(
    run: Run, stream: Iterator[Prediction], losses: np.ndarray
) -> Iterator[Prediction]:
    """Pass on a stream, and add the training objective of each model to `losses` (M, 2)."""
    split, device = run.validation_loader.split, run.world.device
    for prediction in stream:
        targets = torch.from_numpy(split.targets_of(prediction.rows)).to(device).float()
        ignore = torch.from_numpy(split.ignore_of(prediction.rows)).to(device)
        for row, output in zip(losses, prediction.outputs, strict=True):
            found = objective(run.loss, output, targets, ignore, run.config.lamda)
            row += (found.total.item(), found.num_entries.item())
        yield prediction
