"""`--pretrained-model`: a network that starts from the weights of another experiment."""

from collections.abc import Sequence
from pathlib import Path

import torch

from lib.common.errors import UserError
from lib.experiment.checkpoint import load_model_checkpoint
from models.errors import ModelError
from models.mlic import MLIC

POSITION_TABLE = "backbone.trunk.pos_embed"  # of a ViT
CLASSIFIERS = ("object_classifier.", "patch_classifier.")


def start_from(model: MLIC, labels: Sequence[str], path: str) -> None:
    """Load all but the two classifiers from another experiment, whatever its labels.

    `path` is a checkpoint or an experiment folder, in this project's form or the published one.
    Fixed label embeddings stay those of the present labels; learned ones are loaded only from the
    same label list.
    """
    file = Path(path)
    if file.is_dir():
        file = file / "checkpoints" / "best_ema_model.pth"
    content = load_model_checkpoint(file)
    own = model.state_dict()
    state = content.state_for(model)
    if POSITION_TABLE in state and POSITION_TABLE in own:
        try:
            state[POSITION_TABLE] = model.backbone.resize_position_table(state[POSITION_TABLE])
        except ModelError as error:
            raise UserError(f"{file}: {error}") from error
    kept = [name for name in own if name.startswith(CLASSIFIERS)]
    learned = isinstance(model.label_embeddings, torch.nn.Parameter)
    if not (learned and content.labels == list(labels)):
        kept.append("label_embeddings")
    state |= {name: own[name] for name in kept}
    content.load_into(model, state)
