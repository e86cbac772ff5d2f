"""Exports the architectures at their full size, with random weights, as ONNX and in PyTorch's form,
runs what was written and prints rows for LOG.md. Large ones want 8 GB of memory each.
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.architectures import SIX
from lib.common.cli import Parser, run_main

NUM_LABELS = 80


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--archs", nargs="+", default=SIX, help="(default: the method's six)")
    parser.add_argument("--formats", nargs="+", default=("onnx", "torch_export"))
    parser.add_argument("--images", nargs="+", help="two or more pictures (default: noise)")
    arguments = parser.parse_args()

    from lib.common.console import print_line

    print_line("| arch | pixels | format | seconds | MB | scores | largest difference |")
    print_line("|---|---|---|---|---|---|---|")
    for arch in arguments.archs:
        for row in rows(arch, arguments.formats, arguments.images):
            print_line(f"| {arch} | {' | '.join(row)} |")


def rows(arch: str, formats: list[str], images: list[str] | None):
    """Side, form, seconds to write and compare, size, range of scores, and difference or reason."""
    import numpy as np

    from lib.common.errors import UserError
    from lib.export.graph import export_graph, noise, pictures
    from lib.predictor import Predictor

    with tempfile.TemporaryDirectory() as folder:
        predictor = Predictor(random_experiment(arch, Path(folder)), device="cpu")
        compared = pictures(predictor, images) if images else noise(predictor, 2)
        scores, _ = predictor(list(compared))
        spread = f"{np.min(scores):.3f} to {np.max(scores):.3f}"
        for form in formats:
            target, start = Path(folder) / form, time.perf_counter()
            try:
                outcome = f"{export_graph(predictor, form, target, compared):.1e}"
            except UserError as error:
                outcome = str(error)
            seconds = time.perf_counter() - start
            size = sum(file.stat().st_size for file in target.glob("*")) / 1e6
            side = str(predictor.config.img_size)
            yield side, form, f"{seconds:.0f}", f"{size:.0f}", spread, outcome


def random_experiment(arch: str, folder: Path) -> Path:
    """A checkpoint of `arch` as it is initialised, at its own side."""
    import torch

    from lib.config import Config
    from lib.experiment import checkpoint
    from lib.experiment.network import build_model
    from models.registry import find_arch

    sides = find_arch(arch).image_sides
    config = Config(
        arch=arch,
        weights="none",
        embed_type="random",
        pos=True,
        rm_cls="vit" in arch,
        img_size=448 if 448 in sides else sides[-1],
    )
    torch.manual_seed(0)
    labels = [str(number) for number in range(NUM_LABELS)]
    model = build_model(config, NUM_LABELS, None, "none")
    with torch.no_grad():  # or all scores would be about one half
        model.patch_classifier[-1].weight *= 30
    file = folder / "best_ema_model.pth"
    checkpoint.save_model(file, model, labels, config)
    return file


if __name__ == "__main__":
    run_main(main)
