"""Reads how a run went, from the rows of its `history.jsonl`, and draws loss, rate and mAP."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from lib.common.errors import UserError
from lib.common.figures import ACCENT, INK, PALE, saved_figure
from lib.common.readers import numbered_lines

# each panel: its name on the axis, and the lines in it by the key of a row
PANELS = (
    ("loss", {"train_loss": ("training", INK), "val_loss_ema": ("validation, EMA model", PALE)}),
    ("learning rate", {"lr": ("rate", INK)}),
    ("mAP", {"mAP": ("raw model", PALE), "mAP_ema": ("EMA model", INK)}),
)
# not in the rows of older runs, of epochs without a validation, and of --validate ema
OPTIONAL = ("val_loss_ema", "images_per_second", "mAP", "mAP_ema")
KEYS = ("epoch", "images_per_second", *(key for _, lines in PANELS for key in lines))


def read_history(file: Path) -> list[dict[str, float]]:
    """The values to draw, and the speed, of `history.jsonl`: a row an epoch, in file order."""
    rows = []
    missing = dict.fromkeys(OPTIONAL, math.nan)
    for number, line in numbered_lines(file):
        try:
            row = missing | json.loads(line)
            rows.append({name: float(row[name]) for name in KEYS})
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{file}:{number}: no row of an epoch; remove this line") from error
    return rows


def draw_curves(file: Path, rows: Sequence[Mapping[str, float]], title: str) -> None:
    """Write the curves of `rows` as one PNG; the best EMA mAP so far is marked."""
    from matplotlib.ticker import MaxNLocator

    scored = [row for row in rows if not math.isnan(row["mAP_ema"])]
    best = max(scored, key=lambda row: row["mAP_ema"], default=None)  # the first of equals
    title += f": best EMA mAP {best['mAP_ema']:.4f} in epoch {best['epoch']:g}" if best else ""
    with saved_figure(file, (10, 3), layout=None) as figure:
        figure.subplots_adjust(left=0.065, right=0.985, bottom=0.17, top=0.84, wspace=0.28)
        figure.suptitle(title, fontsize=10)
        for axes, (name, lines) in zip(figure.subplots(1, 3), PANELS, strict=True):
            for key, (label, color) in lines.items():
                known = [(row["epoch"], row[key]) for row in rows if not math.isnan(row[key])]
                if known:
                    axes.plot(*zip(*known, strict=True), ".-", color=color, label=label)
            axes.set_xlabel("epoch")
            axes.set_ylabel(name)
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(5))
            axes.ticklabel_format(axis="y", scilimits=(-2, 4))
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(color="0.92")
            if len(lines) > 1 and axes.lines:
                axes.legend(frameon=False, fontsize=8)
        if best:
            axes.plot([best["epoch"]], [best["mAP_ema"]], "o", color=ACCENT, label="best")
            axes.legend(frameon=False, fontsize=8, loc="lower right")
