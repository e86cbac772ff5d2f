"""What the benchmarks share: runs side by side, peak memory, and tables with their JSON.

Machines are noisy, so what is compared is run in turn, and medians are compared.
"""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.tables import table_lines
from lib.common.console import print_line, progress_bar
from lib.common.files import write_json
from lib.experiment.provenance import versions


def median_seconds(
    functions: Mapping[str, Callable[[], object]], repeats: int, device: torch.device
) -> dict[str, float]:
    """Median seconds of each function, run in turn `repeats` times after one run that warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for number in progress_bar(range(repeats + 1), "measure", "round"):
        for name, function in functions.items():
            _finish(device)
            start = time.perf_counter()
            function()
            _finish(device)
            if number:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def peak_bytes(function: Callable[[], object], device: torch.device) -> int:
    """The most memory that `function` holds at one time, beyond what was there before."""
    if device.type == "cuda":
        _finish(device)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        _finish(device)
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler tells of its own affairs
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
        function()
    held = most = 0
    events = profiler.profiler.kineto_results.events()
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def report(
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[object]],
    figures: Mapping[str, float],
    facts: Mapping[str, Any],
    file: Path | None,
) -> None:
    """Print a table and the ratios `figures`, and write them to `file` with machine and facts."""
    about = {"machine": machine(), "versions": versions(), **facts}
    print_line(f"{title}; " + ", ".join(f"{name} {value}" for name, value in about.items()))
    for line in table_lines(header, rows):
        print_line(line)
    for name, value in figures.items():
        print_line(f"{name}: {value:.4g}")
    if file:
        table = [dict(zip(header, row, strict=True)) for row in rows]
        content = {"title": title, **about, "rows": table, "figures": dict(figures)}
        write_json(file, content)


def machine() -> str:
    """The GPU, or the processor and how many threads PyTorch takes."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
