"""What the step benchmarks compare: the method as it is here, its literal, unfused form, and the
bare backbone, each on the same noise.

Shapes: B images, C labels, S image side.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lib.config import Config
from lib.data.loader import Shard
from lib.data.workers import Batch
from lib.experiment.network import head_parameters
from lib.runtime.device import autocast
from lib.runtime.world import World
from lib.training.prepare import build_run
from lib.training.run import Run
from models.bilinear import BilinearAttention, literal_attention
from models.classifier import Classifier

COLUMNS = ("form", "seconds", "images/s", "peak MiB beyond weights", "head parameters, M")


class LiteralAttention(nn.Module):
    """`BilinearAttention` as the method writes it, with a tensor (B, C, N, A)."""

    def __init__(self, attention: BilinearAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, patches: Tensor, label_embeddings: Tensor) -> Tensor:
        own = self.attention
        return literal_attention(
            own.patch_projection(patches),
            own.label_projection(label_embeddings),
            (own.hidden.weight, own.hidden.bias),
            (own.score.weight[0], own.score.bias),
            own.tau,
        )


class BareBackbone(nn.Module):
    """The backbone, its patches averaged, and one linear classifier."""

    def __init__(self, backbone: nn.Module, num_labels: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Linear(backbone.num_features, num_labels)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.backbone(images).mean(dim=1))


def make_run(config: Config, num_labels: int, device: torch.device) -> Run:
    """The network of `config`, with random weights and learned label embeddings."""
    torch.manual_seed(0)
    labels = [str(number) for number in range(num_labels)]
    return build_run(config, labels, None, World(device), steps_per_epoch=100)


def rows(
    seconds: Mapping[str, float],
    memory: Mapping[str, float],
    models: Mapping[str, nn.Module],
    batch_size: int,
) -> list[tuple[object, ...]]:
    """A row of `COLUMNS` for each of `models`."""
    return [
        (name, once, batch_size / once, memory[name] / 2**20, head_parameters(models[name]) / 1e6)
        for name, once in seconds.items()
    ]


def literal(model: Classifier) -> Classifier:
    """`model` in its literal form, in the ordinary memory order; changes it."""
    head: Any = model.head
    head.inter_modal = LiteralAttention(head.inter_modal)
    return model.to(memory_format=torch.contiguous_format)


def make_batch(batch_size: int, num_labels: int, image_size: int) -> Batch:
    """Noise with labels."""
    size = (batch_size, 3, image_size, image_size)
    return Batch(
        torch.randint(0, 256, size, dtype=torch.uint8),
        torch.randint(0, 2, (batch_size, num_labels)).float(),
        torch.zeros(batch_size, num_labels, dtype=torch.bool),
        torch.arange(batch_size),
        [],
    )


def as_shard(batch: Batch) -> Shard:
    """`batch` as the whole batch of one rank."""
    return Shard(0, batch, batch.targets.numel(), len(batch.rows), 1)


class LiteralStep:
    """A training step of the literal form in float32, with one operation a parameter."""

    def __init__(self, config: Config, num_labels: int, device: torch.device) -> None:
        self.run = make_run(replace(config, amp=False), num_labels, device)
        literal(self.run.state.model).train()
        literal(self.run.state.ema.model)
        parameters = self.run.state.model.parameters()
        self.optimizer = torch.optim.AdamW(parameters, lr=config.lr, foreach=False)

    def __call__(self, batch: Batch) -> None:
        run, state, device = self.run, self.run.state, self.run.world.device
        normalizer: Any = run.preprocess
        images = (batch.inputs.to(device).float() / 255 - normalizer.mean) / normalizer.std
        targets, ignore = batch.targets.to(device), batch.ignore.to(device)
        output = state.model(images)
        losses = [
            run.loss(logits, targets, ignore) for logits in (output.logits, output.object_logits)
        ]
        total = losses[0].total + run.config.lamda * losses[1].total
        self.optimizer.zero_grad()
        (total / losses[0].num_entries).backward()
        self.optimizer.step()
        with torch.no_grad():
            states = zip(
                state.ema.model.state_dict().values(),
                state.model.state_dict().values(),
                strict=True,
            )
            for average, value in states:
                if average.is_floating_point():
                    average.add_(value - average, alpha=1 - state.ema.decay)


class BackboneStep:
    """A training step of the bare backbone."""

    def __init__(self, run: Run, num_labels: int, amp: bool) -> None:
        self.run, self.amp, device = run, amp, run.world.device
        model = BareBackbone(run.state.model.backbone, num_labels)
        self.model = model.to(device, memory_format=torch.channels_last).train()
        fused = device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=fused)

    def __call__(self, batch: Batch) -> None:
        device = self.run.world.device
        images = self.run.preprocess(batch.inputs.to(device))
        with autocast(device, self.amp):
            logits = self.model(images)
        loss = nn.functional.binary_cross_entropy_with_logits(
            logits.float(), batch.targets.to(device)
        )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
