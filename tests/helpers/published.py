"""Experiment folders in the published form, made from the goldens."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tests.helpers import goldens

LABELS = tuple(f"label{number}" for number in range(20))


def write_experiment(folder: Path, state: dict[str, Tensor], **config: object) -> Path:
    """`folder/exp`: the goldens' `config.yaml` with the values of `config`, and the checkpoint."""
    lines = (goldens.GOLDEN_DIR / "published_config.yaml").read_text().splitlines()
    values = dict(line.split(": ", 1) for line in lines) | config
    experiment = folder / "exp"
    (experiment / "checkpoints").mkdir(parents=True)
    text = "".join(f"{name}: {value}\n" for name, value in values.items())
    (experiment / "config.yaml").write_text(text)
    content = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save(content, experiment / "checkpoints" / "best_ema_model.pth")
    return experiment


def write_golden_data(folder: Path, golden: dict[str, np.ndarray], rows: Sequence[int]) -> None:
    """`folder/data/voc2007`: these golden images, their labels and label embeddings."""
    data = folder / "data" / "voc2007"
    data.mkdir(parents=True)
    lines = []
    for row in rows:
        image = data / f"{row}.png"
        image.write_bytes(golden[f"png.{row}"].tobytes())
        present = ",".join(LABELS[column] for column in np.flatnonzero(golden["targets"][row]))
        lines.append(f"{image.relative_to(folder)}\t{present}\n")
    for split in ("train", "test"):
        (data / f"{split}.txt").write_text("".join(lines))
    (data / "label.txt").write_text("\n".join(LABELS) + "\n")
    embeddings = goldens.label_embeddings(len(LABELS), 768, int(golden["seed"]))
    np.save(data / "bert.npy", embeddings.numpy())
