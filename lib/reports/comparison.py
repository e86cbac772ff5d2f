"""Compares evaluated experiments: their scores, the flags in which they differ, and the spread over
seeds and test images.

Shapes: R resamples.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.common.errors import UserError
from lib.reports.results import Evaluated, require_same_images
from lib.scoring.bootstrap import (
    interval,
    resample_counts,
    resampled_average_precision,
    resampled_mean,
)

MEASURES = {
    "mAP": "mAP",
    "threshold_cf1": "CF1",
    "threshold_of1": "OF1",
    "topk_cf1": "top-k CF1",
    "topk_of1": "top-k OF1",
}


@dataclass
class ScoredRun:
    """One experiment: its flags, measures by name, and its mAP in each resample (R,)."""

    name: str
    flags: dict[str, Any]
    measures: dict[str, float]
    resampled: np.ndarray


@dataclass
class Group:
    """Runs whose flags differ in the seed alone; `difference` is that of the mean mAP to the first
    group's, with its interval, None for the first group itself."""

    runs: list[ScoredRun]
    difference: tuple[float, float, float] | None = None

    @property
    def resampled(self) -> np.ndarray:
        """Mean mAP of the runs in each resample (R,)."""
        return np.mean([run.resampled for run in self.runs], axis=0)

    @property
    def mean_average_precision(self) -> float:
        """Mean mAP of the runs."""
        return statistics.fmean(run.measures["mAP"] for run in self.runs)

    def mean(self, measure: str) -> float | None:
        """Mean over the runs; None if one lacks it."""
        values = self._values(measure)
        return statistics.fmean(values) if values else None

    def deviation(self, measure: str) -> float | None:
        """Sample standard deviation over the runs; None for one run."""
        values = self._values(measure)
        return statistics.stdev(values) if len(values) > 1 else None

    def _values(self, measure: str) -> list[float]:
        values = [run.measures[measure] for run in self.runs if measure in run.measures]
        return values if len(values) == len(self.runs) else []


@dataclass
class Comparison:
    """Groups in the order of their first runs; `flags` are the fields in which groups differ, and
    `measures` the columns by name."""

    groups: list[Group]
    flags: list[str]
    measures: dict[str, str]


def compare(
    runs: Sequence[Evaluated], *, threshold: float | None, resamples: int, seed: int
) -> Comparison:
    """Compare runs that were evaluated on the same images; `UserError` for others.

    `threshold` None stands for what each run was trained with. All runs see the same resamples of
    the images, so that the interval of a difference is that of paired scores.
    """
    for number, one in enumerate(runs):
        if one.config is None:
            file = one.path / "config.yaml"
            raise UserError(f"{file}: no such file: nothing says how {one.path} was trained")
        if one.path.resolve() in [other.path.resolve() for other in runs[:number]]:
            raise UserError(f"{one.path}: named twice; name each experiment once")
    require_same_images(runs)
    counts = resample_counts(len(runs[0].stored.scores), resamples, seed)
    groups: dict[str, Group] = {}
    names: dict[str, str] = {}
    for one in runs:
        measured = one.stored.summary(one.threshold if threshold is None else threshold, one.topk)
        further = one.further | one.of_maps
        run = ScoredRun(
            str(one.path),
            one.config.fixed_flags if one.config else {},
            {name: measured[name] for name in MEASURES} | further,
            resampled_mean(resampled_average_precision(*one.stored.arrays, counts)),
        )
        names |= {name: name.replace("_", " ") for name in further}
        groups.setdefault(repr(_without_seed(run.flags)), Group([])).runs.append(run)
    first, *others = groups.values()
    for group in others:
        moved = group.mean_average_precision - first.mean_average_precision
        between = interval(group.resampled - first.resampled, moved, bounds=(-1, 1))
        group.difference = (moved, *between)
    known = [group.runs[0].flags for group in groups.values()]
    flags = [
        name
        for name in _without_seed(known[0])
        if any(other[name] != known[0][name] for other in known)
    ]
    return Comparison(list(groups.values()), flags, MEASURES | names)


def _without_seed(flags: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if name != "seed"}
