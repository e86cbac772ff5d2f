"""What an `--arch` stands for: its timm model, and the images that its weights expect.

The names of this table win over timm's own (timm's bare `resnet101` has other weights); any other
timm model goes by its timm name.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from models import ModelError
from models.packages import WeightsPackage, efficientnet_lite

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF_MEAN, HALF_STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
UNIT_MEAN, UNIT_STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
LARGEST_SIDE = 4096
ANY_SIDE = range(1, LARGEST_SIDE + 1)


@dataclass(frozen=True)
class Arch:
    """One backbone: timm's `model.tag`, the mean and std (RGB, pixels in 0..1) that its weights
    expect, the image sides that it takes, timm options that the method sets, the `--norm` that it
    has by default, and a package that brings its weights along."""

    timm_name: str
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    image_sides: range = ANY_SIDE
    options: Mapping[str, Any] = field(default_factory=dict)
    default_norm: str = "imagenet"
    package: WeightsPackage | None = None

    @property
    def expects(self) -> str:
        """The `--norm` of the weights: `imagenet`, `none`, or `weights` for another mean or std."""
        named: dict[tuple[tuple[float, ...], ...], str] = {
            (IMAGENET_MEAN, IMAGENET_STD): "imagenet",
            (UNIT_MEAN, UNIT_STD): "none",
        }
        return named.get((self.mean, self.std), "weights")


LITE_HASHES = (
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)
_TRESNET_SIDES = range(20, LARGEST_SIDE + 1, 4)
_VIT_SIDES = range(16, LARGEST_SIDE + 1, 16)

ARCHS = {
    **{
        name: Arch(f"{name}.tv_in1k")
        for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
    },
    "tresnet_l": Arch("tresnet_l.miil_in1k_448", UNIT_MEAN, UNIT_STD, _TRESNET_SIDES),
    "tresnet_l21k": Arch("tresnet_v2_l.miil_in21k", UNIT_MEAN, UNIT_STD, _TRESNET_SIDES),
    # the published runs started from jx_vit_large_p16_224-4ee7a4dc, which no tag of timm holds
    "vit_large_patch16_224": Arch(
        "vit_large_patch16_224.augreg_in21k_ft_in1k", HALF_MEAN, HALF_STD, _VIT_SIDES
    ),
    "vit_large_patch16_224_in21k": Arch(
        "vit_large_patch16_224.augreg_in21k", HALF_MEAN, HALF_STD, _VIT_SIDES
    ),
    "swin_large_patch4_window12_384_in22k": Arch(
        "swin_large_patch4_window12_384.ms_in22k",
        image_sides=range(384, 385),
        options={"drop_path_rate": 0.1},
    ),
    # for laptops, and where there is no hub
    **{
        f"efficientnet_lite{number}": Arch(
            f"tf_efficientnet_lite{number}.in1k",
            HALF_MEAN,
            HALF_STD,
            default_norm="weights",
            package=efficientnet_lite(number, sha256),
        )
        for number, sha256 in enumerate(LITE_HASHES)
    },
}


def find_arch(name: str) -> Arch:
    """The entry of `name`, or one made from timm's facts. Raises `ModelError` with close names."""
    if name in ARCHS:
        return ARCHS[name]
    import timm

    if not timm.is_model(name):
        known = list(dict.fromkeys([*ARCHS, *timm.list_models()]))
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = (
            f"did you mean {' or '.join(close)}?" if close else "timm.list_models() has the others'"
        )
        raise ModelError(f"--arch {name}: no such architecture; {hint}")
    try:
        facts = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"--arch {name}: {reason} Leave it out for timm's own choice") from error
    return Arch(name) if facts is None else Arch(name, tuple(facts.mean), tuple(facts.std))


def normalization(choice: str | None, arch: Arch) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std (RGB, pixels in 0..1) of `choice`: `imagenet`, `none` or `weights`; None is the
    architecture's default."""
    return {
        "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
        "none": (UNIT_MEAN, UNIT_STD),
        "weights": (arch.mean, arch.std),
    }[choice or arch.default_norm]


def describe_sides(arch: Arch) -> str:
    """The image sides of `arch` in words."""
    sides = arch.image_sides
    if len(sides) == 1:
        return f"{sides[0]} only"
    if sides.step > 1:
        return f"multiples of {sides.step} from {sides.start}"
    return "any"
