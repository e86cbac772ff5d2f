"""Makes label embeddings for a list of labels: vectors of BERT or another text model, or of GloVe.

Shapes: C labels, T text size (768 for bert-base, 300 for GloVe 840B).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lib.common.arguments import BERT
from lib.common.console import print_line, progress_bar
from lib.common.errors import UserError
from lib.common.files import staged_folder, write_json, write_npy
from lib.data.folder import labels_hash

SPELLED_OUT = {  # labels of VOC that are written in one word
    "diningtable": "dining table",
    "pottedplant": "potted plant",
    "tvmonitor": "tv monitor",
}
MAX_LISTED = 20


def spell_out(label: str) -> str:
    """The label as text."""
    return SPELLED_OUT.get(label, label)


def kind_of(model_name: str) -> str:
    """The `--embed-type` of vectors of a text model, a name of the hub or a folder: `bert` for BERT
    as published, `text` for any other."""
    return "bert" if Path(model_name).name == BERT else "text"


def bert_embeddings(labels: Sequence[str], model_name: str) -> np.ndarray:
    """Vectors (C, T) float32 of BERT `model_name`, as published.

    Input is the class token and the label's word pieces, no separator; a label of one piece takes
    its own last hidden vector, a longer one the class token's. Raises `UserError` without
    transformers, and for a model that cannot be loaded or has no class token.
    """
    import torch

    tokenizer, model = _load_text_model(model_name)
    if tokenizer.cls_token_id is None:
        raise UserError(f"--text-model {model_name}: its tokenizer has no class token")
    vectors = []
    for label in progress_bar(labels, "bert", "label"):
        pieces = tokenizer(spell_out(label), add_special_tokens=False)["input_ids"]
        ids = torch.tensor([[tokenizer.cls_token_id, *pieces]])
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if "token_type_ids" in tokenizer.model_input_names:
            inputs["token_type_ids"] = torch.zeros_like(ids)
        with torch.no_grad():
            hidden = model(**inputs).last_hidden_state[0]
        vectors.append(hidden[1 if len(pieces) == 1 else 0].numpy())
    return np.stack(vectors).astype(np.float32)


def text_embeddings(labels: Sequence[str], model_name: str) -> np.ndarray:
    """Vectors (C, T) float32 of the text model `model_name`: the mean of a label's last hidden
    vectors, with those of the tokens that the model's tokenizer adds, as sentence models do.

    Raises `UserError` without transformers, and for a model that cannot be loaded or does not read
    text alone.
    """
    import torch

    tokenizer, model = _load_text_model(model_name)
    vectors = []
    for label in progress_bar(labels, "text", "label"):
        text = spell_out(label).replace("_", " ")
        try:
            with torch.no_grad():
                hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state
        except Exception as error:  # a model of another kind can raise anything here
            raise UserError(
                f"--text-model {model_name}: gives no vectors for a text: {_first_words(error)}"
            ) from error
        vectors.append(hidden[0].mean(dim=0).numpy())
    return np.stack(vectors).astype(np.float32)


def _load_text_model(model_name: str) -> tuple[Any, Any]:
    """Tokenizer and model of a name of the hub, or a folder."""
    from models.weights import reach

    try:
        from huggingface_hub.constants import ENDPOINT
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging
    except ImportError as error:
        raise UserError(
            f"{kind_of(model_name)}.npy needs the package transformers ({_first_words(error)}): "
            "pip install transformers, or pass --glove"
        ) from error
    logging.set_verbosity_error()

    def load(local: bool) -> tuple[Any, Any]:
        how = {"local_files_only": local, "trust_remote_code": False}
        tokenizer = AutoTokenizer.from_pretrained(model_name, **how)
        return tokenizer, AutoModel.from_pretrained(model_name, **how).eval().float()

    try:
        try:
            return load(local=True)  # a folder, or what the hub's cache has as a whole
        except Exception:
            if Path(model_name).is_dir():
                raise
        reach(ENDPOINT)
        return load(local=False)
    except Exception as error:  # a wrong name or file can raise anything here
        raise UserError(
            f"--text-model {model_name}: cannot be loaded: {_first_words(error)}; without the hub, "
            "pass the folder of a model: docs/data.md names a package that has one"
        ) from error


def _first_words(error: Exception) -> str:
    return " ".join(str(getattr(error, "reason", error)).split())[:300]


def glove_embeddings(
    labels: Sequence[str], file: Path, out_of_vocabulary: str = "error"
) -> np.ndarray:
    """Sums (C, T) float32 of the GloVe vectors of each label's words, split at white space.

    Only the needed words of `file`, one a line, are kept. Missing ones raise a `UserError` that
    lists them, unless `out_of_vocabulary` says "zero" or "mean" (of those found).
    """
    words = {label: spell_out(label).split() for label in labels}
    needed = {word for parts in words.values() for word in parts}
    found = read_glove(file, needed)
    if not found:
        raise UserError(
            f"{file}: has none of the labels' words; expected GloVe's text: a word, a space and "
            "its numbers a line, unpacked"
        )
    missing = sorted(needed - set(found))
    if missing and out_of_vocabulary == "error":
        more = f" and {len(missing) - MAX_LISTED} more" if len(missing) > MAX_LISTED else ""
        raise UserError(
            f"{file}: has no vector for {', '.join(missing[:MAX_LISTED])}{more}: pass --oov zero "
            "or mean"
        )
    if missing:
        print_line(f"{file}: has no vector for {', '.join(missing)}: taken as {out_of_vocabulary}")
    vectors = np.stack(list(found.values()))
    filler = vectors.mean(axis=0) if out_of_vocabulary == "mean" else np.zeros(vectors.shape[1])
    sums = [sum(found.get(word, filler) for word in words[label]) for label in labels]
    return np.stack(sums).astype(np.float32)


def read_glove(file: Path, needed: set[str]) -> dict[str, np.ndarray]:
    """Vectors (T,) float64 of the `needed` words, read line by line; the first of a word counts."""
    wanted = {word.encode(): word for word in needed}
    found: dict[str, np.ndarray] = {}
    size = None
    try:
        with (
            open(file, "rb") as lines,
            progress_bar(
                None, "glove", "B", total=file.stat().st_size, unit_scale=True
            ) as progress,
        ):
            for number, line in enumerate(lines, 1):
                progress.update(len(line))
                size = size or len(line.split()) - 1
                word = line.partition(b" ")[0]
                if word not in wanted or wanted[word] in found:
                    continue
                fields = line.split()
                if len(fields) != size + 1:
                    continue  # a word with spaces in it that begins with a needed one
                try:
                    vector = np.array([float(value) for value in fields[1:]])
                except ValueError as error:
                    raise UserError(f"{file}:{number}: not a line of a word and numbers") from error
                if not np.isfinite(vector).all():
                    raise UserError(f"{file}:{number}: holds values that are not finite numbers")
                found[wanted[word]] = vector
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from error
    return found


def write_embeddings(file: Path, vectors: np.ndarray, labels: Sequence[str], model: str) -> None:
    """Write `file` and, beside it, what it was made from and for which labels."""
    if not np.isfinite(vectors).all():
        raise UserError(f"{file}: the vectors of {model} are not finite numbers")
    note = {"model": model, "labels_sha256": labels_hash(labels), "shape": list(vectors.shape)}
    with staged_folder(file.parent) as stage:
        write_npy(stage / file.name, vectors)
        write_json(stage / file.with_suffix(".json").name, note)
