"""What an `--arch` stands for: its timm model, and how its weights expect their images.

The names of this table win over timm's own (timm's bare `resnet101` has other weights); any other
timm model goes by its timm name.
"""

import difflib
from dataclasses import dataclass

from models.errors import ModelError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
UNIT_MEAN, UNIT_STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Arch:
    """One backbone: timm's `model.tag`, and its weights' mean and std (RGB, pixels in 0..1)."""

    timm_name: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


ARCHS = {
    name: Arch(f"{name}.tv_in1k", IMAGENET_MEAN, IMAGENET_STD)
    for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
}


def find_arch(name: str) -> Arch:
    """The entry of `name`, or one made from timm's facts. Raises `ModelError` with close names."""
    if name in ARCHS:
        return ARCHS[name]
    import timm

    if not timm.is_model(name):
        known = list(dict.fromkeys([*ARCHS, *timm.list_models()]))
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else "any timm model name will do"
        raise ModelError(f"--arch {name}: no such architecture; {hint}")
    try:
        facts = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise ModelError(f"--arch {name}: {' '.join(str(error).split())}") from error
    if facts is None:
        return Arch(name, IMAGENET_MEAN, IMAGENET_STD)
    return Arch(name, tuple(facts.mean), tuple(facts.std))


def normalization(choice: str, arch: Arch) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std (RGB, pixels in 0..1) of `choice`: `imagenet`, `none` or `weights`."""
    return {
        "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
        "none": (UNIT_MEAN, UNIT_STD),
        "weights": (arch.mean, arch.std),
    }[choice]
