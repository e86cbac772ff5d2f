"""A training run: builds everything from a `Config`, then trains, validates and keeps the best."""

import shlex
import time
from functools import partial

import torch
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

from lib import checkpoint
from lib.builder import build_learner, notes
from lib.config import Config
from lib.dataset import EpochBatches, ImageDataset, evaluation_loader, make_loader, training_view
from lib.device import select_device
from lib.engine import Learner, gather, predict, train_one_epoch
from lib.errors import UserError
from lib.experiment import Experiment, command_line
from lib.manifest import DataFolder
from lib.metrics import mean_average_precision
from lib.progress import bar

PATIENCE = 3


class Trainer:
    """One run. Making it reads and checks everything; `fit` then makes the experiment folder."""

    def __init__(self, config: Config) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.device = select_device(config.device)
        self.data = DataFolder.open(config.data)
        self.train_split = self.data.split("train")
        self.validation_split = self.data.split(config.select_on).head(config.limit)
        self.train_batches = EpochBatches(
            len(self.train_split), config.batch_size, seed=config.seed, limit=config.limit
        )
        self.learner = self._make_learner()
        self.best_score = -1.0
        self.epochs_without_better = 0
        self.epoch = 0

    def fit(self) -> Experiment:
        """Train to the end, or to the early stop. Gives the experiment with its best checkpoint."""
        config = self.config
        experiment = Experiment.create(config, self.data.name, command_line())
        experiment.log(self._describe())
        for note in notes(config, self.learner.model):
            experiment.log(f"note: {note}")
        train_loader = make_loader(
            ImageDataset(
                self.train_split,
                partial(
                    training_view, size=config.img_size, augment=config.augment, seed=config.seed
                ),
            ),
            self.train_batches,
            config.workers,
            self.device,
        )
        validation_loader = evaluation_loader(
            self.validation_split,
            size=config.img_size,
            batch_size=config.eval_batch_size,
            workers=config.workers,
            device=self.device,
        )
        with experiment.noting_errors(), SummaryWriter(experiment.path) as board:
            for epoch in bar(range(config.max_epochs), "epochs", "epoch"):
                self.epoch = epoch
                self._run_epoch(experiment, train_loader, validation_loader, board)
                if config.estop and self.epochs_without_better >= PATIENCE:
                    experiment.log(f"stopped: {PATIENCE} epochs without a better EMA mAP")
                    break
        experiment.log(
            f"best EMA mAP {self.best_score:.4f}; next: python evaluate.py --exp-dir "
            f"{shlex.quote(str(experiment.path))}"
        )
        return experiment

    def _run_epoch(
        self,
        experiment: Experiment,
        train_loader: DataLoader,
        validation_loader: DataLoader,
        board: SummaryWriter,
    ) -> None:
        """Train, validate, save what is to be saved, and report."""
        start = time.perf_counter()
        self.train_batches.set_epoch(self.epoch)

        def on_step(step: int, loss: float, lr: float) -> None:
            board.add_scalar("train/loss", loss, step)
            board.add_scalar("train/lr", lr, step)

        result = train_one_epoch(self.learner, train_loader, self.epoch, on_step)
        raw, ema = self._validate(validation_loader)
        self.learner.schedule.after_epoch(ema)
        better = ema > self.best_score
        self.best_score = max(self.best_score, ema)
        self.epochs_without_better = 0 if better else self.epochs_without_better + 1
        if better:
            self._save_best(experiment)
        checkpoint.save(experiment.last_checkpoint, self._state())

        seconds = time.perf_counter() - start
        row = {
            "epoch": self.epoch + 1,
            "train_loss": result.loss,
            "lr": result.lr,
            "mAP": raw,
            "mAP_ema": ema,
            "best_mAP_ema": self.best_score,
            "images_per_second": result.images_per_second,
            "seconds": seconds,
        }
        experiment.add_history(row)
        for name in ("mAP", "mAP_ema"):
            board.add_scalar(f"validation/{name}", row[name], self.epoch + 1)
        board.flush()
        experiment.log(
            f"epoch {self.epoch + 1}/{self.config.max_epochs}: loss {result.loss:.3f}, lr "
            f"{result.lr:.2e}, mAP {raw:.4f}, EMA mAP {ema:.4f}{' (best)' if better else ''}, "
            f"{result.images_per_second:.1f} images/s, {seconds:.0f} s"
        )

    def _validate(self, loader: DataLoader) -> tuple[float, float]:
        """mAP of the raw and of the EMA model, over one pass."""
        split, learner = self.validation_split, self.learner
        models = (learner.model, learner.ema.model)
        stream = predict(
            models, loader, learner.normalizer, self.device, self.config.amp, "validate"
        )
        scores = gather(stream, (len(models), *split.targets.shape))
        raw, ema = (
            mean_average_precision(scores[which], split.targets, split.ignore) for which in (0, 1)
        )
        return raw, ema

    def _make_learner(self) -> Learner:
        config = self.config
        embeddings = None
        if config.embed_type != "random":
            embeddings = self.data.label_embeddings(config.embed_type)
        learner = build_learner(
            config,
            self.data.labels,
            embeddings,
            device=self.device,
            steps_per_epoch=len(self.train_batches),
        )
        self._require_statistics(learner.model.grid)
        return learner

    def _require_statistics(self, grid: tuple[int, int]) -> None:
        """BatchNorm needs more than one value per channel, also in the last short batch."""
        images = self.train_batches.count % self.config.batch_size or self.config.batch_size
        values = images * min(grid[0] * grid[1], len(self.data.labels))
        if values == 1:
            raise UserError(
                f"--batch-size {self.config.batch_size}: leaves a batch of one image, too little "
                f"for batch statistics over {len(self.data.labels)} labels and {grid[0]} x "
                f"{grid[1]} patches; choose another"
            )

    def _describe(self) -> str:
        (height, width), model = self.learner.model.grid, self.learner.model
        size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        return (
            f"{self.config.arch}: {size:.1f} M parameters, {height} x {width} patches; "
            f"{self.train_batches.count} train and {len(self.validation_split)} "
            f"{self.config.select_on} images, {len(self.data.labels)} labels; on {self.device}"
        )

    def _save_best(self, experiment: Experiment) -> None:
        content = {
            "model": self.learner.ema.model.state_dict(),
            "labels": list(self.data.labels),
            "config": self.config.to_dict(),
        }
        checkpoint.save(experiment.best_checkpoint, content)

    def _state(self) -> dict:
        """All that the run needs to go on after this epoch, as plain types and tensors."""
        learner = self.learner
        return {
            "model": learner.model.state_dict(),
            "ema": learner.ema.model.state_dict(),
            "optimizer": learner.optimizer.state_dict(),
            "schedule": learner.schedule.state_dict(),
            "scaler": learner.scaler.state_dict(),
            "epoch": self.epoch + 1,
            "step": learner.step,
            "best_score": self.best_score,
            "epochs_without_better": self.epochs_without_better,
            "labels": list(self.data.labels),
            "config": self.config.to_dict(),
            "torch_rng": torch.get_rng_state(),
        }
