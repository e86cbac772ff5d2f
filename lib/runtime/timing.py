"""How long functions take, side by side.

Machines are noisy, so what is compared is run in turn, and medians are compared.
"""

import statistics
import time
from collections.abc import Callable, Mapping

import torch

from lib.common.console import progress_bar


def median_seconds(
    functions: Mapping[str, Callable[[], object]], repeats: int, device: torch.device
) -> dict[str, float]:
    """Median seconds of each function, run in turn `repeats` times after one run that warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for number in progress_bar(range(repeats + 1), "measure", "round"):
        for name, function in functions.items():
            finish(device)
            start = time.perf_counter()
            function()
            finish(device)
            if number:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def finish(device: torch.device) -> None:
    """Wait for what `device` still computes."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
