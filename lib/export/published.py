"""Exports an experiment in the published form, for the published code and for this one."""

from pathlib import Path

import numpy as np

from lib.common.cli import UPRIGHT
from lib.common.errors import UserError
from lib.common.files import staged_folder, write_npy, write_text
from lib.config import Config
from lib.data.folder import DataFolder, folder_of
from lib.experiment import checkpoint
from lib.experiment.loading import LoadedExperiment
from models import official, registry
from models.classifier import Classifier


def export_published(loaded: LoadedExperiment, target: Path) -> None:
    """Write `config.yaml` and `checkpoints/best_ema_model.pth` in the published form to `target`.

    The published form takes labels and fixed label embeddings from the data folder; they are
    written too, below `target/data/<name>/`. Raises `UserError` for another network than the
    method's.
    """
    model = _of_the_method(loaded)
    data = folder_of(loaded.config.data)
    with staged_folder(target) as stage:
        write_text(stage / "config.yaml", _config_text(loaded, data, target))
        file = stage / "checkpoints" / "best_ema_model.pth"
        checkpoint.save(file, official.to_published(model))
        folder = stage / "data" / data.name
        write_text(folder / "label.txt", "".join(f"{label}\n" for label in loaded.labels))
        if loaded.config.embed_type != "random":
            embeddings = model.head.label_embeddings.numpy()
            write_npy(folder / f"{loaded.config.embed_type}.npy", embeddings)


def _of_the_method(loaded: LoadedExperiment) -> Classifier:
    if loaded.config.model == "mlic" and not loaded.config.no_context:
        return loaded.model
    unknown = f"--model {loaded.config.model}"
    unknown = "--no-context" if loaded.config.no_context else unknown
    raise UserError(
        f"--format published: {loaded.experiment.path} has {unknown}, which the published code "
        "does not know"
    )


def caveats(loaded: LoadedExperiment, target: Path) -> list[str]:
    """Why the files at `target` may not give the scores of the experiment."""
    config, data, code = loaded.config, folder_of(loaded.config.data), "the published code"
    notes = {
        f"labels and label embeddings are read from {data}, which does not hold those of the "
        f"experiment: put the files of {target / 'data' / data.name} there": not (
            _in_its_data_folder(loaded)
        ),
        f"{code} has no --arch {config.arch}": config.arch not in registry.ARCHS,
        f"{code} has no --embed-type text": config.embed_type == "text",
        f"{code} has no --output-stride {config.output_stride}": bool(config.output_stride),
        f"{code} cannot normalise by what the weights expect": _pixels(config) == "weights",
        f"{code} does not turn images by EXIF and ignores transparency: the scores of such images "
        "differ there": config.exif == UPRIGHT,
        f"{code} has no position code for a class token, which this model keeps": (
            loaded.model.backbone.prefix_tokens > 0 and config.pos
        ),
    }
    return [note for note, holds in notes.items() if holds]


def _config_text(loaded: LoadedExperiment, data: Path, target: Path) -> str:
    """Lines of `key: value`, values as Python prints them."""
    config = loaded.config
    pixels, checkpoints = _pixels(config), target / "checkpoints"
    values = config.to_dict() | {
        "orid_norm": pixels == "none",
        "norm": "weights" if pixels == "weights" else None,
        "train_path": data / "train.txt",
        "test_path": data / "test.txt",
        "label_path": data / "label.txt",
        "embed_path": data / f"{config.embed_type}.npy",
        "ignore_path": data / "ignore.npy",
        "num_classes": len(loaded.labels),
        "exp_dir": target,
        "log_path": target / "train.log",
        "ckpt_dir": checkpoints,
        "ckpt_best_path": checkpoints / "best_model.pth",
        "ckpt_ema_best_path": checkpoints / "best_ema_model.pth",
    }
    return "".join(f"{name}: {value}\n" for name, value in values.items())


def _pixels(config: Config) -> str:
    """The normalisation in the words of the published flags, where they have one for it."""
    arch = registry.find_arch(config.arch)
    choice = config.normalization or arch.default_norm
    return arch.expects if choice == "weights" else choice


def _in_its_data_folder(loaded: LoadedExperiment) -> bool:
    kind = loaded.config.embed_type
    try:
        data = DataFolder.open(loaded.config.data)
        return data.labels == loaded.labels and (
            kind == "random"
            or np.array_equal(
                data.label_embeddings(kind), _of_the_method(loaded).head.label_embeddings.numpy()
            )
        )
    except UserError:
        return False
