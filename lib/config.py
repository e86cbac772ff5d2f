"""The configuration of one training run: a field is a flag of train.py and a key of config.yaml.

Read by the entry points, the trainer and the predictor only; models, losses and metrics take named
arguments. Imports no torch, so that `train.py --help` is quick.
"""

import argparse
import dataclasses
import math
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lib.cli import DEVICES, Parser
from lib.errors import UserError
from lib.readers import read_settings

# flags that no number of a run depends on
FREE = (
    *("device", "workers", "resume", "save_every", "timeout", "cache", "cache_limit"),
    "max_bad_images",
)


def _flag(default: Any, text: str, choices: Sequence[str] | None = None, short: str | None = None):
    """A config field with what its flag needs beside it: help, choices and a short form."""
    return field(default=default, metadata={"help": text, "choices": choices, "short": short})


@dataclass(frozen=True)
class Config:
    """One training run. Raises `UserError`, naming the flag, for values that cannot work."""

    # what is trained, on what
    model: str = _flag("mlic", "network", choices=("mlic",))
    arch: str = _flag("resnet101", "backbone: an architecture of the method or any timm model")
    data: str = _flag("voc2007", "name of a folder under data/, or the path of a data folder")
    weights: str = _flag("pretrained", "backbone weights: pretrained (download), none, or a file")
    pretrained_model: str | None = _flag(
        None, "checkpoint or experiment to start from, all but its classifiers"
    )
    seed: int = _flag(0, "seed of weights, sampling, augmentation and dropout")
    device: str = _flag("auto", "where to compute", choices=DEVICES)
    workers: int | None = _flag(None, "image loading processes (default: one per core)")
    resume: str | None = _flag(
        None, "go on with an experiment folder, or auto: the newest unfinished run of these flags"
    )
    save_every: int | None = _flag(
        None, "steps after which the run is saved, besides each epoch's end"
    )
    timeout: int = _flag(600, "seconds to wait for a process of the run that does not answer")
    max_bad_images: int = _flag(
        0, "images that cannot be read which are skipped and listed at the end; one more stops"
    )
    cache: str | None = _flag(
        None, "folder for resized images, which then are decoded once, not in every epoch"
    )
    cache_limit: float = _flag(100.0, "gigabytes that a split may take in --cache")
    limit: int | None = _flag(
        None, "images an epoch, in training and validation alike, for a dry run (default: all)"
    )

    # the images
    img_size: int = _flag(448, "image side in pixels")
    augment: str = _flag(
        "published",
        "train transform: flip, cut-out and random policy; flip alone; or none",
        choices=("published", "flip", "none"),
    )
    norm: str | None = _flag(
        None,
        "normalisation: ImageNet's mean and std, none (pixels in 0..1), or what the weights "
        "expect (default: imagenet, or none with --orid-norm)",
        choices=("imagenet", "none", "weights"),
    )
    orid_norm: bool = _flag(False, "mean 0 and std 1, TResNet's own normalisation")

    # the network
    embed_type: str = _flag(
        "bert",
        "label embeddings: bert.npy or glove.npy of the data folder, or learned ones",
        choices=("bert", "glove", "random"),
    )
    output_stride: int | None = _flag(
        None, "pixels per patch, where the backbone can change it (default: the backbone's own)"
    )
    num_layers: int = _flag(1, "encoder layers")
    num_heads: int = _flag(8, "heads of the encoder's attention")
    pos: bool = _flag(False, "add the 2-D sine position code to queries and keys")
    normalize_before: bool = _flag(False, "pre-norm encoder layers (default: post-norm)")
    rm_cls: bool = _flag(False, "drop the class token of a ViT")
    tau: float = _flag(1.0, "temperature of the inter-modal attention")

    # the loss
    loss: str = _flag("asl", "asymmetric loss or binary cross entropy", choices=("asl", "bce"))
    gamma_pos: float = _flag(0.0, "asl: focusing power for positives")
    gamma_neg: float = _flag(2.0, "asl: focusing power for negatives")
    clip: float = _flag(0.0, "asl: probability margin that discards easy negatives")
    lamda: float = _flag(1.0, "weight of the object classifier's loss")

    # optimisation
    batch_size: int = _flag(64, "images per step, over all processes")
    accum_steps: int = _flag(1, "parts of a batch that are computed one after the other")
    clip_grad: float | None = _flag(None, "largest norm of the gradient (default: no limit)")
    max_epochs: int = _flag(60, "epochs")
    lr: float = _flag(1e-4, "learning rate (OneCycleLR: its maximum)")
    backbone_lr: float = _flag(1.0, "what the rate is multiplied by for the backbone")
    freeze_backbone: bool = _flag(
        False, "leave the backbone as it starts, its normalisation statistics included"
    )
    optimizer: str = _flag("AdamW", "optimiser", choices=("AdamW", "Adam", "SGD"))
    weight_decay: float = _flag(1e-4, "weight decay")
    true_weight_decay: bool = _flag(
        False, "no weight decay on biases and other 1-d parameters", short="-twd"
    )
    lr_scheduler: str = _flag(
        "OneCycleLR", "schedule", choices=("OneCycleLR", "StepLR", "ReduceLROnPlateau")
    )
    pct_start: float = _flag(0.2, "OneCycleLR: share of the steps in which the rate rises")
    step_size: int = _flag(20, "StepLR: epochs until the rate falls to a tenth")
    ema_decay: float = _flag(0.9997, "decay of the moving average of the weights")
    ema_epoch: int = _flag(0, "epochs in which the average just copies the weights")
    amp: bool = _flag(False, "mixed precision")
    tf32: bool = _flag(False, "let CUDA round products to TF32 in training, where it would not")
    checkpoint_backbone: bool = _flag(
        False, "keep little of the backbone for the backward and compute it again: less memory"
    )
    deterministic: bool = _flag(
        False, "the same bits each time, where that costs speed (--seed alone: up to rounding)"
    )
    compile: bool = _flag(False, "compile the network for training (torch.compile)")
    estop: bool = _flag(False, "stop after 3 epochs without a better EMA mAP")

    # scores
    select_on: str = _flag(
        "test", "split whose EMA mAP picks the checkpoint", choices=("test", "val")
    )
    topk: int = _flag(3, "labels per image in the top-k scores and prediction.txt")
    threshold: float = _flag(0.5, "score from which a label counts as predicted")

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            choices, value = item.metadata["choices"], getattr(self, item.name)
            if choices and value is not None and value not in choices:
                raise UserError(f"{flag_name(item.name)} {value}: choose from {', '.join(choices)}")
        _require(
            self,
            ("lr", "backbone_lr", "tau", "clip_grad", "cache_limit"),
            "more than 0, and finite",
            lambda v: v is None or 0 < v < math.inf,
        )
        _require(
            self,
            ("gamma_pos", "gamma_neg", "weight_decay", "lamda"),
            "0 or more, and finite",
            lambda v: 0 <= v < math.inf,
        )
        _require(self, ("clip", "pct_start", "threshold"), "between 0 and 1", lambda v: 0 <= v <= 1)
        _require(self, ("ema_decay",), "0 or more and less than 1", lambda v: 0 <= v < 1)
        _require(
            self,
            ("img_size", "output_stride", "num_layers", "num_heads", "batch_size", "max_epochs")
            + ("step_size", "topk", "limit", "save_every", "accum_steps", "timeout"),
            "1 or more",
            lambda v: v is None or v >= 1,
        )
        # files of others may ask for these too: no more than a machine can bear
        _require(self, ("img_size",), "2048 or less", lambda v: v <= 2048)
        _require(self, ("num_layers",), "64 or less", lambda v: v <= 64)
        _require(self, ("workers",), "1024 or less", lambda v: v is None or v <= 1024)
        _require(self, ("arch", "data", "weights"), "a name or a path", lambda v: v.strip())
        _require(
            self,
            ("workers", "ema_epoch", "max_bad_images"),
            "0 or more",
            lambda v: v is None or v >= 0,
        )
        _require(self, ("seed",), "between 0 and 2**32 - 1", lambda v: 0 <= v < 2**32)
        if self.orid_norm and self.norm not in (None, "none"):
            raise UserError(
                f"--orid-norm and --norm {self.norm} contradict each other: pass one of them"
            )

        if self.freeze_backbone and self.backbone_lr != 1:
            raise UserError(
                f"--freeze-backbone and --backbone-lr {self.backbone_lr:g} contradict each other: "
                "pass one of them"
            )

    @property
    def normalization(self) -> str:
        """`imagenet`, `none` or `weights`, whichever flag said so."""
        return self.norm or ("none" if self.orid_norm else "imagenet")

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
        parser = Parser(
            description="Train a multi-label image classifier on data/<name>/; writes "
            "experiments/<model>_<data>/expN/."
        )
        hints = typing.get_type_hints(cls)
        for item in dataclasses.fields(cls):
            names = [name for name in (item.metadata["short"], flag_name(item.name)) if name]
            options = {"help": item.metadata["help"], "default": argparse.SUPPRESS}
            if _base_type(hints[item.name]) is bool:
                parser.add_argument(*names, action="store_true", **options)
                continue
            if item.default is not None:
                options["help"] += f" (default: {item.default})"
            kind, choices = _base_type(hints[item.name]), item.metadata["choices"]
            parser.add_argument(*names, type=kind, choices=choices, **options)
        return vars(parser.parse_args(argv))

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str) -> "Config":
        """Build from the keys of `values` that are fields; other keys are ignored.

        Text is read as the field's type, so that `9e-05`, `True` and `None` mean what they say
        however they were written. `source` names the file in errors.
        """
        hints = typing.get_type_hints(cls)
        known = {}
        for item in dataclasses.fields(cls):
            if item.name in values:
                known[item.name] = _coerce(values[item.name], hints[item.name], item.name, source)
        try:
            return cls(**known)
        except UserError as error:
            raise UserError(f"{source}: {error}") from None

    @classmethod
    def load(
        cls, path: str | Path, required: Sequence[str] = (), optional: Sequence[str] | None = None
    ) -> "Config":
        """Read a `config.yaml`: the fields `required`, which must be there, and `optional` ones
        (None: all others).

        Lines printed by hand mean what they say: `None`, `9e-05`, a data folder called `007`.
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
        """The text of `config.yaml`; `load` gives an equal config back."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)


def flag_name(field_name: str) -> str:
    """`batch_size` -> `--batch-size`."""
    return "--" + field_name.replace("_", "-")


def _require(config: Config, names: Sequence[str], text: str, holds) -> None:
    for name in names:
        value = getattr(config, name)
        if not holds(value):
            raise UserError(f"{flag_name(name)} {value}: must be {text}")


def _base_type(hint: Any) -> type:
    """`int | None` -> `int`."""
    if isinstance(hint, types.UnionType):
        return next(kind for kind in typing.get_args(hint) if kind is not type(None))
    return hint


def _coerce(value: Any, hint: Any, name: str, source: str) -> Any:
    """`value` as the type of field `name`; a `UserError` where it is something else."""
    kind = _base_type(hint)
    if value in (None, "None", "null", "") and kind is not hint:
        return None
    if value is None:
        pass
    elif kind is bool:
        if str(value).lower() in ("true", "false"):
            return str(value).lower() == "true"
    elif kind is str:
        if isinstance(value, (str, int, float)):
            return str(value)
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
        try:
            number = kind(value)
            if number == float(value) or math.isnan(number):
                return number
        except (ValueError, OverflowError):
            pass
    raise UserError(f"{source}: {name}: {value!r} is not of type {kind.__name__}")
