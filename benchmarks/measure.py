"""What the benchmarks share: peak memory, and tables with their JSON."""

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lib.common.console import print_line
from lib.common.files import write_json
from lib.common.text import table_lines
from lib.experiment.provenance import versions
from lib.runtime.timing import finish


def peak_bytes(function: Callable[[], object], device: torch.device) -> int:
    """The most memory that `function` holds at one time, beyond what was there before."""
    if device.type == "cuda":
        finish(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        finish(device)
        return torch.cuda.max_memory_allocated(device) - before
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
