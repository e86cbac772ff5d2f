"""From a configuration to what runs: the network, its starting weights, and its learner."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lib.common.errors import UserError
from lib.config import Config
from lib.data.transforms import Normalizer
from lib.experiment import checkpoint
from lib.runtime.device import exact_float32, grad_scaler
from lib.runtime.world import World
from lib.training.ema import Ema
from lib.training.losses import asymmetric_loss, binary_cross_entropy
from lib.training.optim import Schedule, make_optimizer
from lib.training.step import Criterion, TrainState
from models import registry
from models.backbones import build_backbone
from models.errors import ModelError
from models.folding import fold_norms
from models.mlic import MLIC

POSITION_TABLE = "backbone.trunk.pos_embed"  # of a ViT
CLASSIFIERS = ("object_classifier.", "patch_classifier.")


def build_model(
    config: Config, num_labels: int, label_embeddings: np.ndarray | Tensor | None, weights: str
) -> MLIC:
    """Build the network of `config` on the CPU.

    `label_embeddings` (C, T) are fixed, None makes learned ones. `weights` are the backbone's:
    `pretrained`, `none` or a file. Raises `UserError` for what the architecture cannot take.
    """
    embeddings = None if label_embeddings is None else torch.as_tensor(label_embeddings)
    try:
        backbone = build_backbone(
            config.arch,
            registry.find_arch(config.arch),
            image_size=config.img_size,
            weights=weights,
            output_stride=config.output_stride,
            drop_class_token=config.rm_cls,
        )
        return MLIC(
            backbone,
            num_labels,
            embeddings,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            position=config.pos,
            pre_norm=config.normalize_before,
            tau=config.tau,
        )
    except ModelError as error:
        raise UserError(str(error)) from error


def build_train_state(
    config: Config,
    labels: Sequence[str],
    label_embeddings: np.ndarray | None,
    *,
    world: World,
    steps_per_epoch: int,
) -> TrainState:
    """Build all that a training step reads and moves, on the device of `world`; its processes are
    not asked, so that an error of one of them can be told to the others."""
    # another experiment brings its own backbone: nothing to download
    replaced = config.pretrained_model and config.weights == "pretrained"
    weights = "none" if replaced else config.weights
    model = build_model(config, len(labels), label_embeddings, weights)
    if config.pretrained_model:
        start_from(model, labels, config.pretrained_model)
    if config.checkpoint_backbone:
        try:
            model.backbone.enable_grad_checkpointing()
        except ModelError as error:
            raise UserError(f"--checkpoint-backbone: {config.arch} {error}") from error
    model = world.convert_sync_bn(model).to(world.device, memory_format=torch.channels_last)
    if config.freeze_backbone:
        model.backbone.freeze()
    optimizer = make_optimizer(
        model,
        config.optimizer,
        lr=config.lr,
        weight_decay=config.weight_decay,
        true_weight_decay=config.true_weight_decay,
        backbone_lr=config.backbone_lr,
    )
    schedule = Schedule(
        config.lr_scheduler,
        optimizer,
        lr=config.lr,
        epochs=config.max_epochs,
        steps_per_epoch=steps_per_epoch,
        pct_start=config.pct_start,
        step_size=config.step_size,
    )
    ema = Ema(model, config.ema_decay)
    if config.compile:
        model.compile()  # its state keeps its names, and copies of it are not compiled
    return TrainState(
        model=model,
        network=model,
        ema=ema,
        criterion=build_criterion(config),
        lamda=config.lamda,
        optimizer=optimizer,
        schedule=schedule,
        scaler=grad_scaler(world.device, config.amp),
        normalizer=build_normalizer(config, world.device),
        world=world,
        amp=config.amp,
        ema_epoch=config.ema_epoch,
        accum_steps=config.accum_steps,
        clip_grad=config.clip_grad,
        recompute=config.checkpoint_backbone,
    )


def prepare_for_inference(model: MLIC, image_size: int) -> MLIC:
    """Change `model` so that it gives the same scores in less time, and can learn no more."""
    model.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    image = torch.zeros(1, 3, image_size, image_size, device=next(model.parameters()).device)
    with exact_float32():
        fold_norms(model, image.contiguous(memory_format=torch.channels_last))
    return model


def build_criterion(config: Config) -> Criterion:
    """The loss of `--loss`, of logits, targets and ignore."""
    if config.loss == "bce":
        return binary_cross_entropy
    return partial(
        asymmetric_loss,
        gamma_pos=config.gamma_pos,
        gamma_neg=config.gamma_neg,
        clip=config.clip,
    )


def build_normalizer(config: Config, device: torch.device) -> Normalizer:
    """The normalisation that `--norm` or `--orid-norm` chose."""
    arch = registry.find_arch(config.arch)
    return Normalizer(*registry.normalization(config.normalization, arch), device)


def notes(config: Config, model: MLIC) -> Iterator[str]:
    """What the user may not have meant by `config`."""
    arch = registry.find_arch(config.arch)
    if config.freeze_backbone and config.weights == "none" and not config.pretrained_model:
        yield "--freeze-backbone keeps random weights: --weights none, and no --pretrained-model"
    if config.rm_cls and not model.backbone.trunk_prefix_tokens:
        yield f"--rm-cls changes nothing, {config.arch} has no class token"
    if config.tf32 and next(model.parameters()).device.type != "cuda":
        yield "--tf32 changes nothing, it is for CUDA"
    chosen = config.norm or config.orid_norm or config.pretrained_model
    if config.weights != "none" and not chosen and arch.expects != "imagenet":
        flag = "--orid-norm" if arch.expects == "none" else "--norm weights"
        yield (
            "pixels are normalised by ImageNet's mean and std, as published; the weights of "
            f"{config.arch} expect mean {arch.mean} and std {arch.std}: pass {flag} for these, or "
            "--norm imagenet to keep it without this note"
        )


def start_from(model: MLIC, labels: Sequence[str], path: str) -> None:
    """Take all but the two classifiers from another experiment, whatever its labels.

    `path` is a checkpoint or an experiment folder, in this project's form or the published one.
    Fixed label embeddings stay those of the present labels; learned ones are taken only from the
    same label list.
    """
    file = Path(path)
    if file.is_dir():
        file = file / "checkpoints" / "best_ema_model.pth"
    content = checkpoint.load_model_checkpoint(file)
    own = model.state_dict()
    state = content.state_for(model)
    if POSITION_TABLE in state and POSITION_TABLE in own:
        try:
            state[POSITION_TABLE] = model.backbone.resize_position_table(state[POSITION_TABLE])
        except ModelError as error:
            raise UserError(f"{file}: {error}") from error
    kept = [name for name in own if name.startswith(CLASSIFIERS)]
    learned = isinstance(model.label_embeddings, torch.nn.Parameter)
    if not (learned and content.labels == list(labels)):
        kept.append("label_embeddings")
    state |= {name: own[name] for name in kept}
    content.load_into(model, state)
