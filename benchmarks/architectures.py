"""Speed and memory of architectures at their full size, a forward pass in eval mode and a whole
training step, in float32 and in mixed precision; and the largest difference of their logits, in
float32, from those of the CPU. Ends with exit code 1 if that is beyond its tolerance.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.cli import Parser, device_name, positive_int, run_main
from lib.config import Config

SIX = (
    "resnet101",
    "tresnet_l",
    "tresnet_l21k",
    "vit_large_patch16_224",
    "vit_large_patch16_224_in21k",
    "swin_large_patch4_window12_384_in22k",
)
NUM_LABELS = 80
COMPARED = 2  # images whose logits are compared
TOLERANCE = 1e-3  # of a logit


class Speed(NamedTuple):
    """Images per second, and the peak of the device's memory in GiB beyond what was held before."""

    images_per_second: float
    memory: float


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--archs", nargs="+", default=SIX, help="(default: the method's six)")
    parser.add_argument("--device", type=device_name, default="auto")
    parser.add_argument("--batch-size", type=positive_int, default=16)
    parser.add_argument(
        "--img-size", type=positive_int, help="(default: 448, or the most that it takes)"
    )
    parser.add_argument("--repeats", type=positive_int, default=5, help="timed steps of each")
    parser.add_argument("--json", type=Path, help="write the results here too")
    arguments = parser.parse_args()

    from benchmarks.measure import report
    from lib.runtime.device import choose_fastest_convolutions, keep_freed_memory, select_device

    device = select_device(arguments.device)
    keep_freed_memory(device)
    choose_fastest_convolutions()  # as train.py does on CUDA
    batch_size, repeats = arguments.batch_size, arguments.repeats
    rows, differences = [], {}
    for arch in arguments.archs:
        config = make_config(arch, arguments.img_size, batch_size)
        differences[arch] = difference_from_cpu(config, device)
        for amp in (False, True):
            forward, training = measure(config, device, amp, repeats)
            precision = "amp" if amp else "float32"
            difference = "" if amp else differences[arch]
            rows.append((arch, precision, *forward, *training, difference))
    report(
        "architectures, forward and training step",
        ("arch", "precision", "forward images/s", "GiB beyond weights", "training images/s")
        + ("GiB beyond state", "logits against CPU"),
        rows,
        {"largest_difference_of_logits": max(differences.values())},
        {"batch": batch_size, "labels": NUM_LABELS, "repeats": repeats},
        arguments.json,
    )
    wrong = {arch: found for arch, found in differences.items() if not found <= TOLERANCE}
    if wrong:
        sys.exit(f"logits differ from the CPU's by more than {TOLERANCE}: {wrong}")


def make_config(arch: str, image_size: int | None, batch_size: int) -> Config:
    """`arch` with random weights, at the side that it takes."""
    from models.registry import find_arch

    sides = find_arch(arch).image_sides
    return Config(
        arch=arch,
        weights="none",
        embed_type="random",
        pos=True,
        rm_cls="vit" in arch,
        img_size=image_size or (448 if 448 in sides else sides[-1]),
        batch_size=batch_size,
    )


def difference_from_cpu(config: Config, device) -> float:
    """The largest difference of a logit in float32 between `device` and the CPU."""
    import torch

    from lib.experiment.network import build_model
    from lib.runtime.device import exact_float32

    torch.manual_seed(0)
    model = build_model(config, NUM_LABELS, None, "none").eval()
    images = torch.randn(COMPARED, 3, config.img_size, config.img_size)
    with torch.inference_mode(), exact_float32():
        expected = model(images).logits
        found = model.to(device)(images.to(device)).logits.cpu()
    return float((found - expected).abs().max())


def measure(config: Config, device, amp: bool, repeats: int) -> tuple[Speed, Speed]:
    """Speed and memory of a forward pass and of a training step, on noise."""
    from dataclasses import replace

    import torch

    from benchmarks.measure import peak_bytes
    from benchmarks.steps import as_shard, make_batch, make_run
    from lib.runtime.device import autocast
    from lib.runtime.timing import median_seconds
    from lib.training.step import train_step

    config = replace(config, amp=amp)
    run = make_run(config, NUM_LABELS, device)
    model = run.state.model
    batch = make_batch(config.batch_size, NUM_LABELS, config.img_size)
    images = run.preprocess(batch.inputs.to(device))

    def forward() -> None:
        with torch.inference_mode(), autocast(device, amp):
            model.eval()(images)

    def training() -> None:
        model.train()
        losses.append(train_step(run, as_shard(batch)).loss_sum.item())

    def speed(step: Callable[[], None]) -> Speed:
        seconds = median_seconds({"step": step}, repeats, device)["step"]
        return Speed(config.batch_size / seconds, peak_bytes(step, device) / 2**30)

    losses: list[float] = []
    speeds = speed(forward), speed(training)
    if not torch.tensor(losses).isfinite().all():
        sys.exit(f"{config.arch}: a loss is not finite: {losses}")
    return speeds


if __name__ == "__main__":
    run_main(main)
