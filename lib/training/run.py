"""A run: what it is made of (`Run`), and what its steps change (`RunState`, kept in `last.pth`)."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lib.config import Config
from lib.data.bad_images import BadImages
from lib.data.loader import EvaluationLoader, TrainingLoader
from lib.experiment.folder import Experiment
from lib.runtime.world import World
from lib.training.ema import Ema
from lib.training.losses import LossFunction
from lib.training.schedules import Schedule
from models.classifier import Classifier


@dataclass
class RunState:
    """What the steps of a run change.

    `step` counts optimiser steps, `epoch` complete epochs, and `batch` the batches of the current
    one, whose training loss is `loss_total / loss_count`; `lr` is the last learning rate,
    `best_score` the best EMA mAP so far. `rng` has each rank's random state and `sizes` the bytes
    of the log files, both as of the last save.
    """

    model: Classifier
    ema: Ema[Classifier]
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    scaler: torch.amp.GradScaler
    bad_images: BadImages
    step: int = 0
    epoch: int = 0
    batch: int = 0
    loss_total: float = 0.0
    loss_count: int = 0
    lr: float = 0.0
    best_score: float = -1.0
    epochs_without_better: int = 0
    skipped_steps: int = 0
    rng: list[dict[str, Tensor]] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)

    @property
    def loss(self) -> float:
        """Mean training loss of the epoch so far."""
        return self.loss_total / max(self.loss_count, 1)

    def begin_epoch(self, epoch: int) -> None:
        """Set to the first batch of `epoch`."""
        self.epoch, self.batch, self.skipped_steps = epoch, 0, 0
        self.loss_total, self.loss_count = 0.0, 0

    def state_dict(self) -> dict[str, Any]:
        """Every field as plain types and tensors."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return {
            name: value.state_dict() if hasattr(value, "state_dict") else value
            for name, value in values.items()
        }

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        for item in dataclasses.fields(self):
            own, saved = getattr(self, item.name), content[item.name]
            if not hasattr(own, "load_state_dict"):
                setattr(self, item.name, saved)
            elif saved:  # empty for a loss scale that was not needed, as with bfloat16
                own.load_state_dict(saved)


@dataclass
class Run:
    """What a run is made of, on one of its ranks; its steps change `state` alone.

    `network` is what is trained, in DistributedDataParallel if there are several ranks in `world`:
    the model in `state`, or its head alone where features of the backbone are cached.
    `preprocess` makes its input from that of a batch. `digests` are those of the splits, by name.
    """

    config: Config
    world: World
    labels: list[str]
    network: nn.Module
    preprocess: Callable[[Tensor], Tensor]
    loss: LossFunction
    state: RunState
    # set last, as they start processes and create a folder
    digests: dict[str, str] = field(init=False)
    train_loader: TrainingLoader = field(init=False)
    validation_loader: EvaluationLoader = field(init=False)
    experiment: Experiment = field(init=False)
