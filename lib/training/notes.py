"""Notes at the start of a run: settings that may not do what the user expects."""

from collections.abc import Iterator
from pathlib import Path

from lib.experiment.hub import is_hub_name
from lib.experiment.network import kernel_note
from lib.runtime.device import emulates_bfloat16
from lib.training.run import Run
from models import registry

# fractions of the EMA weight left on the initial values: too much, and little
TOO_MUCH_LEFT, LITTLE_LEFT = 0.2, 0.01


def notes_on(run: Run, steps_per_epoch: int) -> Iterator[str]:
    """A line for each setting of `run` that may not do what the user expects."""
    config, device = run.config, run.world.device
    total_steps = config.max_epochs * steps_per_epoch
    left = config.ema_decay**total_steps
    if left > TOO_MUCH_LEFT and not config.limit:
        enough = LITTLE_LEFT ** (1 / total_steps)
        yield (
            f"--ema-decay {config.ema_decay:g}: after {total_steps} steps, {left:.0%} of the EMA "
            "model, which is scored and saved, is still from the start: pass a smaller one, such "
            f"as {enough:.3g}"
        )
    if config.freeze_backbone and config.weights == "none" and not config.pretrained_model:
        yield "--freeze-backbone keeps random weights: --weights none, and no --pretrained-model"
    if config.freeze_backbone and config.grad_checkpointing:
        yield "--grad-checkpointing changes nothing, the backbone is not trained"
    if config.rm_cls and not run.state.model.backbone.trunk_prefix_tokens:
        yield f"--rm-cls changes nothing, {config.arch} has no class token"
    if config.amp and emulates_bfloat16(device):
        yield (
            "--amp: this CPU is not known to compute bfloat16 itself, and is then several times "
            "slower with it"
        )
    if note := kernel_note(run.state.model, device):
        yield note
    if config.tf32 and device.type != "cuda":
        yield "--tf32 changes nothing, it is for CUDA"
    own = is_hub_name(config.weights) or Path(config.weights).is_dir()  # trained by this project
    chosen = config.norm or config.orid_norm or config.pretrained_model or own
    arch = registry.find_arch(config.arch)
    usual = arch.expects in ("imagenet", arch.default_norm)
    if config.weights != "none" and not chosen and not usual:
        flag = "--orid-norm" if arch.expects == "none" else "--norm weights"
        yield (
            "pixels are normalised by ImageNet's mean and std, as published; the weights of "
            f"{config.arch} expect mean {arch.mean} and std {arch.std}: pass {flag} for these, or "
            "--norm imagenet to keep it without this note"
        )
