"""Compares evaluated experiments: their scores, the flags in which they differ, and the spread over
seeds and test images; as rows, as a Markdown table and as a figure.

Shapes: R resamples.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lib.common.errors import UserError
from lib.common.figures import INK, PALE, saved_figure
from lib.common.flags import flag_name
from lib.reports.results import Evaluated, require_same_images
from lib.scoring.bootstrap import (
    interval,
    resample_counts,
    resampled_average_precision,
    resampled_mean,
)
from lib.scoring.metrics import summarize

MEASURES = {
    "mAP": "mAP",
    "threshold_cf1": "CF1",
    "threshold_of1": "OF1",
    "topk_cf1": "top-k CF1",
    "topk_of1": "top-k OF1",
}
DIFFERENCE = ("difference", "difference low", "difference high")
NOT_SHOWN = ("mAP low", "mAP high", *DIFFERENCE)  # as columns of their own

Row = dict[str, Any]


class ScoredRun(NamedTuple):
    """One experiment: its flags, its measures by column, and its mAP in each resample (R,)."""

    name: str
    flags: dict[str, Any]
    measures: dict[str, float]
    resampled: np.ndarray


def compare(
    runs: Sequence[Evaluated], *, threshold: float | None, resamples: int, seed: int
) -> list[list[Row]]:
    """Compare runs that were evaluated on the same images; `UserError` for others.

    Gives groups of runs whose flags differ in the seed alone, each as a row per run, and one for
    their mean if there are several. A row has the name of the run, the flags in which groups
    differ, measures with their sample standard deviation over seeds (`std`), the bootstrap
    interval of mAP (`low`, `high`), and on a group's last row the `difference` of its mAP to the
    first group's. Numbers are in full precision, None where a run lacks one. `threshold` None
    stands for what each run was trained with. All runs see the same resamples of the images, so
    that the interval of a difference is that of paired scores.
    """
    for number, one in enumerate(runs):
        if one.config is None:
            file = one.path / "config.yaml"
            raise UserError(f"{file}: no such file: nothing says how {one.path} was trained")
        if one.path.resolve() in [other.path.resolve() for other in runs[:number]]:
            raise UserError(f"{one.path}: named twice; name each experiment once")
    require_same_images(runs)
    counts = resample_counts(len(runs[0].stored.scores), resamples, seed)
    groups: dict[str, list[ScoredRun]] = {}
    for one in runs:
        flags = one.config.fixed_flags if one.config else {}
        resampled = resampled_mean(resampled_average_precision(*one.stored.arrays, counts))
        run = ScoredRun(str(one.path), flags, _measures(one, threshold), resampled)
        groups.setdefault(repr(flags | {"seed": None}), []).append(run)
    columns = list(dict.fromkeys(name for run in sum(groups.values(), []) for name in run.measures))
    own = [group[0].flags | {"seed": None} for group in groups.values()]
    flags_shown = [name for name in own[0] if any(other[name] != own[0][name] for other in own)]
    first, *_ = groups.values()
    table: list[list[Row]] = []
    for group in groups.values():
        rows = [_row([run], flags_shown, columns) for run in group]
        if len(group) > 1:
            rows.append(_row(group, flags_shown, columns))
        if group is not first:
            moved = rows[-1]["mAP"] - table[0][-1]["mAP"]
            between = interval(_resampled(group) - _resampled(first), moved, bounds=(-1, 1))
            rows[-1] |= dict(zip(DIFFERENCE, (moved, *between), strict=True))
        table.append(rows)
    return table


def _row(group: Sequence[ScoredRun], flags: Sequence[str], columns: Sequence[str]) -> Row:
    """The row of a run, or of the mean of several."""
    first, alone = group[0], len(group) == 1
    row: Row = {"run": first.name if alone else f"mean of {len(group)}"}
    row |= {flag_name(flag): _shown(first.flags[flag]) for flag in flags}
    row["seed"] = first.flags["seed"] if alone else None
    for column in columns:
        values = [run.measures.get(column) for run in group]
        row[column], row[f"{column} std"] = mean_and_deviation(values)
    row["mAP low"], row["mAP high"] = interval(_resampled(group), row["mAP"])
    return row


def _resampled(group: Sequence[ScoredRun]) -> np.ndarray:
    """Mean mAP of the runs in each resample (R,)."""
    return np.mean([run.resampled for run in group], axis=0)


def markdown(rows: Sequence[Row]) -> Iterator[str]:
    """The rows of `compare` as lines, rounded; deviations stand behind ±."""
    lines = []
    for row in rows:
        cells = {}
        for name, value in row.items():
            if f"{name} std" in row:
                cells[name] = spread_text(value, row[f"{name} std"])
            elif name not in NOT_SHOWN and not name.endswith(" std"):
                cells[name] = "" if value is None else str(value)
            if name == "mAP":
                cells["95 % interval"] = "{mAP low:.4f} to {mAP high:.4f}".format_map(row)
                form = "{difference:+.4f} ({difference low:+.4f} to {difference high:+.4f})"
                moved = form.format_map(row) if "difference" in row else ""
                cells["mAP less the first's"] = moved
        lines.append(cells)
    yield from aligned_table(lines)


def draw(file: Path, groups: Sequence[Sequence[Row]]) -> None:
    """Draw the mAP of groups: runs with their bootstrap intervals, mean and deviation."""
    with saved_figure(file, (8, max(2.2, 0.6 * len(groups) + 1.4))) as figure:
        axes = figure.subplots()
        for spot, rows in enumerate(groups):
            runs = rows[: max(1, len(rows) - 1)]  # without their mean
            for number, run in enumerate(runs):
                place = spot + 0.12 * (number - (len(runs) - 1) / 2)
                axes.hlines(place, run["mAP low"], run["mAP high"], color=PALE, linewidth=2)
                axes.plot(run["mAP"], place, "o", color=PALE, markersize=4)
            mean, spread = rows[-1]["mAP"], rows[-1]["mAP std"]
            axes.errorbar(mean, spot, xerr=spread, fmt="D", color=INK, markersize=5, capsize=4)
        axes.set_yticks(range(len(groups)), [_name(rows) for rows in groups], fontsize=8)
        axes.set_ylim(len(groups) - 0.5, -0.5)
        axes.set_xlabel(
            "mAP: runs with their 95 % interval over images (pale), mean and standard deviation"
            " over seeds (dark)", fontsize=8,
        )  # fmt: skip
        axes.grid(axis="x", color="0.92")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)


def mean_and_deviation(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """The mean, None if a value is missing; the sample standard deviation, None of one value."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None, None
    return statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None


def spread_text(mean: float | None, deviation: float | None = None, digits: int = 4) -> str:
    """`mean_and_deviation` as a cell, `0.1234 ± 0.0012`; empty without a mean."""
    if mean is None:
        return ""
    return f"{mean:.{digits}f}" + ("" if deviation is None else f" ± {deviation:.{digits}f}")


def aligned_table(rows: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """The lines of an aligned table in Markdown, of cells by column; empty columns are left out."""
    rows = [{name: cell.replace("|", "\\|") for name, cell in row.items()} for row in rows]
    names = [name for name in rows[0] if any(row[name] for row in rows)]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in names}
    rule = {name: "-" * width for name, width in widths.items()}
    for row in ({name: name for name in names}, rule, *rows):
        yield "| " + " | ".join(row[name].ljust(widths[name]) for name in names) + " |"


def _measures(run: Evaluated, threshold: float | None) -> dict[str, float]:
    """The measures of a run by the names of their columns."""
    threshold = run.threshold if threshold is None else threshold
    known = summarize(*run.stored.arrays, threshold=threshold, topk=run.topk)
    further = {name.replace("_", " "): value for name, value in run.further.items()}
    return {name: known[key] for key, name in MEASURES.items()} | further


def _name(rows: Sequence[Row]) -> str:
    """What sets a group apart: its flags, or its run where no flag does."""
    flags = [f"{name} {value}" for name, value in rows[0].items() if name.startswith("--")]
    name = ", ".join(flags) or rows[0]["run"]
    return name if len(rows) == 1 else f"{name} ({len(rows) - 1} seeds)"


def _shown(value: Any) -> Any:
    """A flag's value as a cell."""
    if value is None:
        return "-"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
