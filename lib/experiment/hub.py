"""A trained model as one folder, `model.safetensors` and `config.json`, on disk or on the Hugging
Face Hub as `hf://user/name[@revision]`.
"""

import re
import shutil
from pathlib import Path

from lib.common.cli import HUB
from lib.common.errors import UserError
from lib.common.failures import quoted

WEIGHTS, SETTINGS, CARD = "model.safetensors", "config.json", "README.md"
MAX_SETTINGS = 10 * 2**20  # bytes
SECONDS = 20  # of silence of the Hub
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def is_hub_name(name: str | Path) -> bool:
    """Whether `name` is one of the Hub, and no path."""
    return str(name).startswith(HUB)


def weights_of(name: str | Path) -> Path:
    """The checkpoint that `name` leads to: a file, the folder of an experiment or of an exported
    model, or a name of the Hub, whose files are then fetched. The file may be missing."""
    if is_hub_name(name):
        return fetch(str(name)) / WEIGHTS
    path = Path(name)
    if not path.is_dir():
        return path
    exported = path / WEIGHTS
    return exported if exported.is_file() else path / "checkpoints" / "best_ema_model.pth"


def short_name(name: str) -> str:
    """A name of the Hub as that of a folder."""
    return name.removeprefix(HUB).replace("/", "--")


def fetch(name: str) -> Path:
    """The folder in the Hub's cache with the weights and settings of `name`, after a download where
    they are not there.

    Without a connection, what is cached will do. Raises `UserError` for names that do not exist or
    are private, for models without safetensors, and for files that do not fit on the disk.
    """
    match = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", name)
    if not match:
        raise UserError(f"{name}: expected hf://user/name or hf://user/name@revision")
    from huggingface_hub import errors, hf_hub_download

    repo, revision = match[1], match[2]
    refusals = {
        errors.GatedRepoError: "asks for consent: give it on the Hub, then hf auth login",
        errors.RepositoryNotFoundError: "there is no such model, or it is private: see the name, "
        "or hf auth login",
        errors.RevisionNotFoundError: "there is no such revision of this model",
    }
    offline = None
    try:
        _require_files(name, repo, revision)
    except UserError:
        raise
    except Exception as error:  # the connection may fail in any way
        for kind, says in refusals.items():
            if isinstance(error, kind):
                raise UserError(f"{name}: {says}") from error
        offline = error
    try:
        cached = bool(offline)
        settings = Path(hf_hub_download(repo, SETTINGS, revision=revision, local_files_only=cached))
        commit = settings.parent.name  # a push in between must not pair it with other weights
        hf_hub_download(repo, WEIGHTS, revision=commit, local_files_only=cached)
    except errors.LocalEntryNotFoundError as error:
        raise UserError(
            f"{name}: is not cached, and the Hub cannot be reached ({quoted(offline or error)}): "
            "connect, or copy the model's folder and pass its path"
        ) from error
    except Exception as error:
        raise UserError(f"{name}: cannot be downloaded: {quoted(error)}") from error
    return settings.parent


def _require_files(name: str, repo: str, revision: str | None) -> None:
    """Ask the Hub which files a model has, and how large they are."""
    from huggingface_hub import HfApi, constants, try_to_load_from_cache

    info = HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=SECONDS)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
    if WEIGHTS not in sizes and any(file.endswith(PICKLES) for file in sizes):
        raise UserError(f"{name}: holds pickles alone, which are not read: it needs {WEIGHTS}")
    if missing := [file for file in (WEIGHTS, SETTINGS) if file not in sizes]:
        raise UserError(f"{name}: no model of this project: it has no {missing[0]}")
    if sizes[SETTINGS] > MAX_SETTINGS:
        raise UserError(f"{name}: its {SETTINGS} has {sizes[SETTINGS]:,} bytes: no settings")
    if isinstance(try_to_load_from_cache(repo, WEIGHTS, revision=info.sha), str):
        return
    folder = Path(constants.HF_HUB_CACHE)
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if sizes[WEIGHTS] > shutil.disk_usage(there).free:
        raise UserError(
            f"{name}: has {sizes[WEIGHTS] / 1e9:.1f} GB, more than {folder} has room for: free "
            "some, or set HF_HUB_CACHE to another folder"
        )
