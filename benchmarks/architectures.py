"""Speed and memory of the architectures at their full size: a forward pass in eval mode and a whole
training step, in float32 and in mixed precision. Prints rows for LOG.md.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.cli import DEVICES, Parser, positive_int, run_main

SIX = (
    "resnet101",
    "tresnet_l",
    "tresnet_l21k",
    "vit_large_patch16_224",
    "vit_large_patch16_224_in21k",
    "swin_large_patch4_window12_384_in22k",
)
NUM_LABELS = 80
WARM_UP = 2


class Row(NamedTuple):
    """Median speeds in images/s, peak memory of the device in GiB (None where it is not known)."""

    arch: str
    amp: bool
    forward: float
    forward_memory: float | None
    training: float
    training_memory: float | None
    loss: float


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--archs", nargs="+", default=SIX, help="(default: the method's six)")
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--batch-size", type=positive_int, default=16)
    parser.add_argument("--repeats", type=positive_int, default=5, help="timed steps of each")
    arguments = parser.parse_args()

    import torch

    from lib.common.console import print_line
    from lib.experiment.provenance import versions
    from lib.runtime.device import select_device

    device = select_device(arguments.device)
    machine = torch.cuda.get_device_name() if device.type == "cuda" else str(device)
    print_line(
        f"{machine}, {versions()}, batch {arguments.batch_size}, median of {arguments.repeats}"
    )
    print_line("| arch | precision | forward images/s | GiB | training images/s | GiB |")
    print_line("|---|---|---|---|---|---|")
    for arch in arguments.archs:
        for amp in (False, True):
            row = measure(arch, device, arguments.batch_size, amp, arguments.repeats)
            print_line(
                f"| {arch} | {'amp' if amp else 'fp32'} | {row.forward:.1f} | "
                f"{_gib(row.forward_memory)} | {row.training:.1f} | {_gib(row.training_memory)} |"
            )


def measure(arch: str, device, batch_size: int, amp: bool, repeats: int) -> Row:
    """Time `arch` at its own image side, with `NUM_LABELS` labels, on noise."""
    import torch

    from benchmarks.steps import as_shard, make_batch, make_train_state
    from lib.config import Config
    from lib.runtime.device import autocast
    from lib.training.step import train_step
    from models.registry import find_arch

    sides = find_arch(arch).image_sides
    config = Config(
        arch=arch,
        weights="none",
        embed_type="random",
        pos=True,
        rm_cls="vit" in arch,
        amp=amp,
        img_size=448 if 448 in sides else sides[-1],
        batch_size=batch_size,
    )
    state = make_train_state(config, NUM_LABELS, device)
    batch = make_batch(batch_size, NUM_LABELS, config.img_size)
    images = state.normalizer(batch.pixels.to(device))

    def forward() -> None:
        with torch.inference_mode(), autocast(device, amp):
            state.model(images)

    def training() -> None:
        losses.append(train_step(state, as_shard(batch), 0, config).loss_sum.item())

    losses: list[float] = []
    state.model.eval()
    forward_seconds, forward_memory = _timed(forward, device, repeats)
    state.model.train()
    training_seconds, training_memory = _timed(training, device, repeats)
    return Row(
        arch,
        amp,
        batch_size / forward_seconds,
        forward_memory,
        batch_size / training_seconds,
        training_memory,
        losses[-1],
    )


def _timed(step: Callable[[], None], device, repeats: int) -> tuple[float, float | None]:
    """Median seconds of `step` after a warm-up, and the peak of the device's memory in GiB."""
    import torch

    cuda = device.type == "cuda"
    for _ in range(WARM_UP):
        step()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(repeats):
        if cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        step()
        if cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    memory = torch.cuda.max_memory_allocated() / 2**30 if cuda else None
    return statistics.median(seconds), memory


def _gib(memory: float | None) -> str:
    return "-" if memory is None else f"{memory:.1f}"


if __name__ == "__main__":
    run_main(main)
