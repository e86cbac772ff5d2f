"""The configuration of one training run: a field is a flag of train.py and a key of config.yaml.

Read by the entry points and by the code that builds and runs a training; models, losses and metrics
take named arguments. Imports no torch, so that `train.py --help` is fast.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lib.common.arguments import EMBEDDINGS
from lib.common.cli import DEVICES, EXIF, STORED, UPRIGHT, is_device
from lib.common.errors import UserError
from lib.common.flags import flag, flag_name, parse_flags, read_values
from lib.common.readers import read_settings
from models.heads import HEADS

# flags that do not affect results, if --augment is the same
RUNTIME_FLAGS = (
    *("device", "workers", "resume", "save_every", "timeout", "max_bad_images"),
    *("cache", "cache_limit", "cache_features", "validate"),
)
# keys of this project's earlier config.yaml and checkpoints -> fields
RENAMED_KEYS = {
    "checkpoint_backbone": "grad_checkpointing",
    "backbone_lr": "backbone_lr_scale",
}
# fields that files of earlier runs, and published ones, lack -> what these were trained with
BEFORE = {"exif": STORED}


@dataclass(frozen=True)
class Config:
    """One training run. Raises `UserError`, naming the flag, for values that cannot work."""

    # model and data
    model: str = flag(
        "mlic",
        "head on the backbone: "
        + ", ".join(f"{name}: {head.title}" for name, head in HEADS.items()),
        choices=tuple(HEADS),
        group="model and data",
    )
    arch: str = flag(
        "resnet101",
        "backbone: an architecture of the method, any timm model, or on a laptop "
        "efficientnet_lite0, 1 or 2",
    )
    data: str = flag("voc2007", "name of a folder under data/, or the path of a data folder")
    weights: str = flag(
        "pretrained",
        "backbone weights to start from: pretrained (from the cache, an installed package or a "
        "download), none, a file, or the backbone of an experiment or exported model",
    )
    pretrained_model: str | None = flag(
        None, "checkpoint, experiment or exported model to start from, without its classifiers"
    )
    keep_classifiers: bool = flag(
        False, "with --pretrained-model of the same labels: take its classifiers too"
    )

    # run
    seed: int = flag(0, "seed of weights, sampling, augmentation and dropout", group="run")
    device: str = flag("auto", f"device to compute on: {DEVICES}")
    workers: int | None = flag(
        None, "data loading worker processes (default: one per core, at most 16)"
    )
    resume: str | None = flag(
        None, "resume from EXP_DIR; auto: the latest unfinished run with these flags"
    )
    save_every: int | None = flag(
        None, "save last.pth every N steps, and at the end of each epoch (default: the latter)"
    )
    timeout: int = flag(600, "distributed timeout in seconds")
    max_bad_images: int = flag(
        0, "unreadable images that are skipped and listed at the end; one more ends the run"
    )
    cache: str | None = flag(
        None, "folder for resized images, so that an image is decoded once and not in every epoch"
    )
    cache_features: str | None = flag(
        None,
        "with --freeze-backbone: folder for the backbone's features of each image and its mirror "
        "image, so that only the head runs in training",
    )
    cache_limit: float = flag(
        100.0, "largest size of a split in --cache or --cache-features, in GB; beyond it, an error"
    )
    limit: int | None = flag(
        None, "images per epoch, in training and validation alike, for a dry run (default: all)"
    )

    # images
    img_size: int = flag(448, "image side in pixels; the aspect ratio is not kept", group="images")
    exif: str = flag(
        UPRIGHT,
        "upright: apply the EXIF rotation, and lay transparent images over white; stored: the "
        "pixels as the file has them, as published",
        choices=EXIF,
    )
    augment: str | None = flag(
        None,
        "published: flip, cut-out and random operations; flip: the flip alone; or none "
        "(default: published; flip with --cache-features)",
        choices=("published", "flip", "none"),
    )
    norm: str | None = flag(
        None,
        "normalisation: ImageNet's mean and std, none (pixels in 0..1), or what the weights "
        "expect (default: imagenet; none with --orid-norm; weights for efficientnet_lite)",
        choices=("imagenet", "none", "weights"),
    )
    orid_norm: bool = flag(False, "as --norm none, pixels in 0..1, which TResNet expects")

    # network
    embed_type: str = flag(
        "bert",
        "label embeddings: bert.npy, glove.npy or text.npy (of another text model) of the data "
        "folder, or learned ones",
        choices=(*EMBEDDINGS, "random"),
        group="network",
    )
    embed_norm: str = flag(
        "none",
        "none: label embeddings as they are, as published; center: without their mean over the "
        "labels, scaled to a standard deviation of 1",
        choices=("none", "center"),
    )
    output_stride: int | None = flag(
        None, "pixels per patch, if the backbone can change it (default: the backbone's own)"
    )
    num_layers: int = flag(1, "encoder layers of mlic")
    num_heads: int = flag(8, "attention heads of the encoder of mlic")
    pos: bool = flag(False, "add the 2-D sine position code to queries and keys")
    normalize_before: bool = flag(False, "pre-norm encoder layers (default: post-norm)")
    rm_cls: bool = flag(False, "drop the class token of a ViT")
    tau: float = flag(1.0, "temperature of the inter-modal attention")
    no_context: bool = flag(
        False, "ablation: no intra-modal attention, patches are classified without their context"
    )
    csra_heads: int = flag(1, "csra: number of attention heads", choices=(1, 2, 4, 6, 8))
    csra_lambda: float = flag(0.1, "csra: weight of the attention")
    hidden_dim: int | None = flag(
        None, "q2l: size of the transformer (default: the backbone's, at most 2048)"
    )

    # loss
    loss: str = flag(
        "asl", "asymmetric loss or binary cross entropy", choices=("asl", "bce"), group="loss"
    )
    gamma_pos: float = flag(0.0, "asl: focusing power for positives")
    gamma_neg: float = flag(2.0, "asl: focusing power for negatives")
    clip: float = flag(0.0, "asl: probability margin that discards easy negatives")
    lamda: float = flag(1.0, "weight of the object classifier's loss")

    # optimisation
    batch_size: int = flag(64, "global batch size, over all processes", group="optimisation")
    accum_steps: int = flag(1, "gradient accumulation steps: micro-batches of a batch")
    clip_grad: float | None = flag(None, "maximum norm of the gradient (default: no limit)")
    max_epochs: int = flag(60, "epochs")
    lr: float = flag(1e-4, "learning rate (OneCycleLR: its maximum)")
    backbone_lr_scale: float = flag(1.0, "factor of the learning rate for the backbone")
    freeze_backbone: bool = flag(
        False, "do not train the backbone; its normalisation statistics stay too"
    )
    optimizer: str = flag("AdamW", "optimiser", choices=("AdamW", "Adam", "SGD"))
    weight_decay: float = flag(1e-4, "weight decay")
    true_weight_decay: bool = flag(
        False, "no weight decay on biases and other 1-d parameters", short="-twd"
    )
    lr_scheduler: str = flag(
        "OneCycleLR",
        "learning rate schedule",
        choices=("OneCycleLR", "StepLR", "ReduceLROnPlateau"),
    )
    pct_start: float = flag(0.2, "OneCycleLR: fraction of the steps in which the rate rises")
    step_size: int = flag(20, "StepLR: epochs until the rate falls to a tenth")
    ema_decay: float = flag(0.9997, "decay of the moving average of the weights (EMA)")
    ema_epoch: int = flag(0, "copy the weights into the EMA in the first N epochs, then average")
    estop: bool = flag(False, "early stopping: after 3 validations without a better EMA mAP")

    # speed and memory
    amp: bool = flag(False, "automatic mixed precision", group="speed and memory")
    tf32: bool = flag(False, "allow TF32 in CUDA's matrix products in training")
    grad_checkpointing: bool = flag(
        False, "gradient checkpointing of the backbone: less memory, more time"
    )
    deterministic: bool = flag(
        False, "deterministic algorithms, slower (with --seed alone: equal up to rounding)"
    )
    compile: bool = flag(False, "torch.compile the network for training")

    # scores
    select_on: str = flag(
        "test",
        "split whose EMA mAP picks the checkpoint",
        choices=("test", "val"),
        group="scores",
    )
    validate: str = flag(
        "both",
        "models to score after an epoch: the raw and the EMA one, or the EMA one alone",
        choices=("both", "ema"),
    )
    validate_every: int = flag(
        1, "epochs from one validation to the next; the last epoch always has one"
    )
    topk: int = flag(3, "labels per image in the top-k scores and prediction.txt")
    threshold: float = flag(0.5, "score from which a label counts as predicted")

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            choices, value = item.metadata["choices"], getattr(self, item.name)
            if choices and value is not None and value not in choices:
                listed = ", ".join(map(str, choices))
                raise UserError(f"{flag_name(item.name)} {value}: choose from {listed}")
        for names, text, holds in RANGES:
            for name in names:
                value = getattr(self, name)
                if value is not None and not holds(value):
                    raise UserError(f"{flag_name(name)} {value}: must be {text}")
        for model, head in HEADS.items():
            changed = [name for name in head.flags if getattr(self, name) != getattr(Config, name)]
            if model != self.model and changed:
                raise UserError(
                    f"{flag_name(changed[0])}: belongs to --model {model}, and has no effect with "
                    f"--model {self.model}: leave it out"
                )
        if self.embed_norm != "none" and self.embed_type == "random":
            raise UserError(
                f"--embed-norm {self.embed_norm}: --embed-type random has no vectors to change, it "
                "learns them: leave one out"
            )
        if self.keep_classifiers and not self.pretrained_model:
            raise UserError("--keep-classifiers: belongs to --pretrained-model: pass both")
        if self.cache_features and not self.freeze_backbone:
            raise UserError(
                "--cache-features: the features of a backbone in training change with every step: "
                "pass --freeze-backbone too"
            )
        if self.cache_features and self.cache:
            raise UserError(
                "--cache has no effect with --cache-features, which reads each image once: leave "
                "it out"
            )
        if self.cache_features and self.augment == "published":
            raise UserError(
                "--augment published: --cache-features has the features of each image and its "
                "mirror image alone: pass --augment flip or none"
            )
        if self.orid_norm and self.norm not in (None, "none"):
            raise UserError(
                f"--orid-norm and --norm {self.norm} contradict each other: pass one of them"
            )
        if self.freeze_backbone and self.backbone_lr_scale != 1:
            raise UserError(
                f"--freeze-backbone and --backbone-lr-scale {self.backbone_lr_scale:g} contradict "
                "each other: pass one of them"
            )

    @property
    def has_label_embeddings(self) -> bool:
        """Whether the network reads label embeddings of the data folder."""
        return "embed_type" in HEADS[self.model].flags and self.embed_type != "random"

    @property
    def augmentation(self) -> str:
        """`published`, `flip` or `none`."""
        return self.augment or ("flip" if self.cache_features else "published")

    @property
    def normalization(self) -> str | None:
        """`imagenet`, `none` or `weights`, from either flag; None is the architecture's default."""
        return self.norm or ("none" if self.orid_norm else None)

    @property
    def fixed_flags(self) -> dict[str, Any]:
        """The flags that affect results, normalised: two ways to say the same are equal."""
        fields = self.to_dict() | {"augment": self.augmentation}
        return {name: value for name, value in fields.items() if name not in RUNTIME_FLAGS}

    @property
    def eval_batch_size(self) -> int:
        """Batch size of validation, and evaluate.py's default: at most 64, so that it fits."""
        return min(self.batch_size, 64)

    @classmethod
    def parse(cls, argv: Sequence[str] | None = None) -> "Config":
        """Read the flags of train.py."""
        return cls(**cls.flags(argv))

    @classmethod
    def flags(cls, argv: Sequence[str] | None = None) -> dict[str, Any]:
        """The fields that the flags of train.py set; others are at their defaults."""
        description = (
            "Train a multi-label image classifier on data/<name>/; writes "
            "experiments/<model>_<data>/expN/."
        )
        return parse_flags(cls, description, argv)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str) -> "Config":
        """Build from the keys of `values` that are fields; other keys are ignored, and `BEFORE`
        replaces missing ones.

        Text is converted to the field's type, so `9e-05`, `True` and `None` are read as they were
        meant, however they were written. `source` names the file in errors.
        """
        values = BEFORE | {RENAMED_KEYS.get(name, name): value for name, value in values.items()}
        known = read_values(cls, values, source)
        try:
            return cls(**known)
        except UserError as error:
            raise UserError(f"{source}: {error}") from None

    @classmethod
    def load(
        cls, path: str | Path, required: Sequence[str] = (), optional: Sequence[str] | None = None
    ) -> "Config":
        """Read a `config.yaml`: the `required` fields, and the `optional` ones (None: all others).

        Raises `UserError` if a required one is missing. Lines that were printed by hand are
        understood: `None`, `9e-05`, a data folder called `007`.
        """
        values = read_settings(Path(path))
        if not values:
            raise UserError(f"{path}: not a config: expected lines of 'key: value'")
        for name in required:
            if name not in values:
                raise UserError(f"{path}: lacks a line '{name}: ...'")
        if optional is not None:
            values = {name: values[name] for name in (*required, *optional) if name in values}
        return cls.from_dict(values, str(path))

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values."""
        return dataclasses.asdict(self)

    def to_yaml(self) -> str:
        """The text of `config.yaml`; `load` returns an equal config."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)


# fields, the values that they allow in words, and as a check; None is always allowed
RANGES: tuple[tuple[tuple[str, ...], str, Callable[[Any], bool]], ...] = (
    (
        ("lr", "backbone_lr_scale", "tau", "clip_grad", "cache_limit"),
        "more than 0, and finite",
        lambda v: 0 < v < math.inf,
    ),
    (
        ("gamma_pos", "gamma_neg", "weight_decay", "lamda", "csra_lambda"),
        "0 or more, and finite",
        lambda v: 0 <= v < math.inf,
    ),
    (("clip", "pct_start", "threshold"), "between 0 and 1", lambda v: 0 <= v <= 1),
    (("ema_decay",), "0 or more and less than 1", lambda v: 0 <= v < 1),
    (
        ("img_size", "output_stride", "num_layers", "num_heads", "batch_size", "max_epochs")
        + ("step_size", "topk", "limit", "save_every", "accum_steps", "timeout")
        + ("validate_every", "hidden_dim"),
        "1 or more",
        lambda v: v >= 1,
    ),
    # bounds for untrusted configs
    (("img_size",), "2048 or less", lambda v: v <= 2048),
    (("num_layers",), "64 or less", lambda v: v <= 64),
    (("workers",), "1024 or less", lambda v: v <= 1024),
    (("device",), DEVICES, is_device),
    (("arch", "data", "weights"), "a name or a path", lambda v: bool(v.strip())),
    (("workers", "ema_epoch", "max_bad_images"), "0 or more", lambda v: v >= 0),
    (("seed",), "between 0 and 2**32 - 1", lambda v: 0 <= v < 2**32),
)
