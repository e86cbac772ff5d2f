"""Reads the results that evaluate.py wrote for an experiment: its scores and its metrics.

Needs no model and no data set. Shapes: N images, C labels.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lib.common.errors import UserError
from lib.common.files import file_digest
from lib.common.readers import read_json
from lib.config import Config
from lib.scoring.tuning import Cutoffs, Tuning, choose_cutoffs, load_tuning
from models.heads import MEANINGS

PARTS = ("scores", "targets", "ignore", "paths", "labels")
MAP_MEASURES = ("pointing_accuracy", "energy_in_box", "discrimination", "same_peak")


class Scores(NamedTuple):
    """The scores of a test split: `scores` (N, C) float32 in [0, 1], `targets` (N, C) uint8 in
    {0, 1}, `ignore` (N, C) bool, `paths` (N,), `labels` (C,)."""

    scores: np.ndarray
    targets: np.ndarray
    ignore: np.ndarray
    paths: list[str]
    labels: list[str]

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores, targets and ignore, as the metrics take them."""
        return self.scores, self.targets, self.ignore


class Evaluated(NamedTuple):
    """An evaluated experiment: its folder, scores, `results.json`, and configuration if known."""

    path: Path
    checkpoint: Path
    stored: Scores
    results: dict[str, Any]
    config: Config | None

    @property
    def threshold(self) -> float:
        return (self.config or Config()).threshold

    @property
    def topk(self) -> int:
        return (self.config or Config()).topk

    @property
    def localization(self) -> dict[str, dict[str, float]]:
        """The measures of each heatmap by name; empty where none was measured."""
        return self.results.get("localization") or {}

    @property
    def further(self) -> dict[str, float]:
        """What evaluate.py measured besides what scores alone give; of each map of the head, how
        well it points, and tells labels apart."""
        of_maps = {
            f"{map_}_{name}": float(self.localization[map_][name])
            for map_ in MEANINGS
            for name in MAP_MEASURES
            if name in self.localization.get(map_, {})
        }
        single = MAP_MEASURES if of_maps else ()  # these are those of one of the maps
        of_model = {
            name: float(value)
            for name, value in self.results.items()
            if isinstance(value, (int, float))
            and name not in ("mAP", *single)
            and not name.startswith(("threshold_", "topk_"))
        }
        return of_model | of_maps

    def require_checkpoint(self, again: str) -> None:
        """Raise `UserError`, with the remedy `again`, unless results.json says by its `evaluation`
        that it is of the present checkpoint."""
        found = self.results.get("evaluation") or {}
        if found.get("checkpoint_sha256") != file_digest(self.checkpoint):
            raise UserError(f"{self.path / 'results.json'}: of other weights; {again} again")

    def tuning(self) -> Tuning | None:
        """What `evaluate.py --tune-thresholds` has learned; None without it, or if the checkpoint
        that it was learned for is gone."""
        if not self.checkpoint.is_file():
            return None
        return load_tuning(self.path, self.stored.labels, self.checkpoint)

    def cutoffs(self, threshold: float | str | None = None) -> Cutoffs:
        """The score from which each label counts as predicted, as `Predictor.cutoffs` says."""
        return choose_cutoffs(threshold, self.tuning, len(self.stored.labels), self.threshold)


def open_evaluated(exp_dir: Path) -> Evaluated:
    """Read an experiment folder (or its checkpoint file's) that evaluate.py has written to.

    Raises `UserError` where it has not, and for files that are damaged or of different runs.
    """
    alone = exp_dir.is_file()
    path = exp_dir.parent if alone else exp_dir
    exported = path / "model.safetensors"
    own = exported if exported.is_file() else path / "checkpoints" / "best_ema_model.pth"
    checkpoint = exp_dir if alone else own
    if not path.is_dir():
        raise UserError(f"{exp_dir}: no such experiment; train.py prints the one it makes")
    again = run_again(exp_dir)
    for name in ("scores.npz", "results.json"):
        if not (path / name).is_file():
            raise UserError(f"{path / name}: no such file; {again} first")
    stored = read_scores(path / "scores.npz", again)
    results = read_json(path / "results.json")
    per_label = results.get("per_label")
    if not isinstance(per_label, dict) or list(per_label) != stored.labels:
        raise UserError(
            f"{path}: results.json and scores.npz are not of the same labels; {again} again"
        )
    config = Config.load(path / "config.yaml") if (path / "config.yaml").is_file() else None
    return Evaluated(path, checkpoint, stored, results, config)


def run_again(exp_dir: Path) -> str:
    """The remedy for files of evaluate.py that are missing or do not fit."""
    return f"run python evaluate.py --exp-dir {shlex.quote(str(exp_dir))}"


def read_scores(file: Path, again: str) -> Scores:
    """Read `scores.npz`, never a pickle; a `UserError`, with the remedy `again`, if it is damaged
    or its parts do not fit each other."""
    try:
        with np.load(file, allow_pickle=False) as content:
            scores, targets, ignore, paths, labels = (content[name] for name in PARTS)
    except Exception as error:  # bytes from elsewhere can fail the reader in any way
        raise UserError(f"{file}: a damaged file, or no scores; {again} again") from error
    fits = (
        scores.ndim == 2
        and scores.size > 0
        and scores.shape == targets.shape == ignore.shape == (*paths.shape, *labels.shape)
        and paths.dtype.kind == labels.dtype.kind == "U"
        and len(set(labels.tolist())) == labels.size
        and scores.dtype.kind == "f"
        and bool(((scores >= 0) & (scores <= 1)).all())
        and bool(np.isin(targets, (0, 1)).all() and np.isin(ignore, (0, 1)).all())
    )
    if not fits:
        raise UserError(
            f"{file}: expected scores (images, labels) in [0, 1], targets and ignore of 0 and 1 in "
            f"the same shape, the images' paths, and labels without duplicates; {again} again"
        )
    arrays = scores.astype(np.float32), targets.astype(np.uint8), ignore == 1
    return Scores(*arrays, paths.tolist(), labels.tolist())


def require_same_images(runs: Sequence[Evaluated]) -> None:
    """Raise `UserError` unless all runs were scored on the same labels, images and targets."""
    first = runs[0]
    for other in runs[1:]:
        one, two = first.stored, other.stored
        for what, same in {
            "labels": one.labels == two.labels,
            "test images": one.paths == two.paths,
            "targets": np.array_equal(one.targets, two.targets),
            "ignored entries": np.array_equal(one.ignore, two.ignore),
        }.items():
            if not same:
                raise UserError(
                    f"{other.path}: was evaluated on other {what} than {first.path}: such runs "
                    "cannot be compared; leave one out, or evaluate both on the same data"
                )
