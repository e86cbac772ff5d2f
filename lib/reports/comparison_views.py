"""A comparison as a table and as a figure."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lib.common.figures import INK, PALE, saved_figure
from lib.common.flags import flag_name
from lib.reports.comparison import Comparison, Group
from lib.scoring.bootstrap import interval

DIFFERENCE = ("difference", "difference low", "difference high")


def table(comparison: Comparison) -> list[dict[str, Any]]:
    """A row per run, and one for the mean of each group of several; cells by their column's name.

    Numbers are in full precision; what a row has no value for is None.
    """
    rows = []
    for group in comparison.groups:
        flags = {flag_name(name): _shown(group.runs[0].flags[name]) for name in comparison.flags}
        for run in group.runs:
            row = {"run": run.name, **flags, "seed": run.flags["seed"]}
            rows.append(row | _cells(comparison, run.measures.get, run.resampled))
        if len(group.runs) > 1:
            row = {"run": f"mean of {len(group.runs)}", **flags, "seed": None}
            rows.append(row | _cells(comparison, group.mean, group.resampled, group.deviation))
        if group.difference:
            rows[-1] |= dict(zip(DIFFERENCE, group.difference, strict=True))
    return rows


def markdown(comparison: Comparison) -> Iterator[str]:
    """`table` as the lines of an aligned Markdown table, rounded; deviations stand behind ±."""
    lines = []
    for row in table(comparison):
        cells = {name: "" if row[name] is None else str(row[name]) for name in _heads(comparison)}
        for name in comparison.measures.values():
            spread = row.get(f"{name} std")
            cells[name] = _rounded(row[name]) + (f" ± {spread:.4f}" if spread is not None else "")
            if name == "mAP":
                cells["95 % interval"] = f"{row['mAP low']:.4f} to {row['mAP high']:.4f}"
                moved = [row[part] for part in DIFFERENCE if part in row]
                text = "{:+.4f} ({:+.4f} to {:+.4f})".format(*moved) if moved else ""
                cells["mAP less the first's"] = text
        lines.append({name: cell.replace("|", "\\|") for name, cell in cells.items()})
    names = [name for name in lines[0] if any(line[name] for line in lines)]  # no empty columns
    widths = {name: max(len(name), *(len(line[name]) for line in lines)) for name in names}
    heads = {name: name for name in names}
    rule = {name: "-" * width for name, width in widths.items()}
    for line in (heads, rule, *lines):
        yield "| " + " | ".join(line[name].ljust(widths[name]) for name in names) + " |"


def draw(file: Path, comparison: Comparison) -> None:
    """Draw the mAP of groups: runs with their bootstrap intervals, mean and deviation."""
    groups = comparison.groups
    spots = np.arange(len(groups))
    names = [_name(comparison, group) for group in groups]
    with saved_figure(file, (8, max(2.2, 0.6 * len(groups) + 1.4))) as figure:
        axes = figure.subplots()
        for spot, group in zip(spots, groups, strict=True):
            for number, run in enumerate(group.runs):
                place = spot + 0.12 * (number - (len(group.runs) - 1) / 2)
                low, high = interval(run.resampled, run.measures["mAP"])
                axes.hlines(place, low, high, color=PALE, linewidth=2)
                axes.plot(run.measures["mAP"], place, "o", color=PALE, markersize=4)
            spread = group.deviation("mAP")
            axes.errorbar(
                group.mean_average_precision,
                spot,
                xerr=spread,
                fmt="D",
                color=INK,
                markersize=5,
                capsize=4,
            )
        axes.set_yticks(spots, names, fontsize=8)
        axes.set_ylim(len(groups) - 0.5, -0.5)
        axes.set_xlabel(
            "mAP: runs with their 95 % interval over images (pale), mean and standard deviation"
            " over seeds (dark)", fontsize=8,
        )  # fmt: skip
        axes.grid(axis="x", color="0.92")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)


def _cells(
    comparison: Comparison,
    value: Callable[[str], float | None],
    resampled: np.ndarray,
    deviation: Callable[[str], float | None] = lambda measure: None,
) -> dict[str, float | None]:
    cells: dict[str, float | None] = {}
    for measure, name in comparison.measures.items():
        cells |= {name: value(measure), f"{name} std": deviation(measure)}
    low, high = interval(resampled, value("mAP") or 0.0)
    return cells | {"mAP low": low, "mAP high": high}


def _heads(comparison: Comparison) -> list[str]:
    return ["run", *map(flag_name, comparison.flags), "seed"]


def _name(comparison: Comparison, group: Group) -> str:
    """What sets a group apart: its flags, or its run where no flag does."""
    flags = group.runs[0].flags
    said = [f"{flag_name(name)} {_shown(flags[name])}" for name in comparison.flags]
    name = ", ".join(said) or group.runs[0].name
    return name if len(group.runs) == 1 else f"{name} ({len(group.runs)} seeds)"


def _shown(value: Any) -> Any:
    """A flag's value as a cell."""
    if value is None:
        return "-"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def _rounded(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
