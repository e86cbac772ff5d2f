"""`--pretrained-model`: a network that starts from the weights of another experiment."""

from collections.abc import Sequence

from torch import nn

from lib.common.errors import UserError
from lib.experiment.checkpoint import load_model_checkpoint
from lib.experiment.hub import weights_of
from models.classifier import Classifier
from models.errors import ModelError

POSITION_TABLE = "backbone.trunk.pos_embed"  # of a ViT


def start_from(
    model: Classifier, labels: Sequence[str], path: str, *, keep_classifiers: bool = False
) -> None:
    """Load all that does not belong to the labels from another experiment of the same `--model`;
    with `keep_classifiers` the rest too. Raises `UserError` for those of other labels.

    `path` is a checkpoint or an experiment folder, in this project's form or the published one, or
    an exported model, in a folder or on the Hub.
    Fixed label embeddings stay those of the present labels; learned ones are loaded only from the
    same label list.
    """
    file = weights_of(path)
    content = load_model_checkpoint(file)
    own = model.state_dict()
    state = content.state_for(model)
    if POSITION_TABLE in state and POSITION_TABLE in own:
        try:
            state[POSITION_TABLE] = model.backbone.resize_position_table(state[POSITION_TABLE])
        except ModelError as error:
            raise UserError(f"{file}: {error}") from error
    if keep_classifiers and content.labels != list(labels):
        same = content.labels and sorted(content.labels) == sorted(labels)
        known = "of other labels" if content.labels else "that does not say its labels"
        known = "of the same labels in another order" if same else known
        raise UserError(f"--keep-classifiers: {file} is a checkpoint {known}: leave the flag out")
    fresh_parts = () if keep_classifiers else model.label_parts
    fresh = [name for name in own if name.startswith(fresh_parts)]
    vectors = getattr(model.head, "label_embeddings", None)
    learned = isinstance(vectors, nn.Parameter)
    if vectors is not None and not (learned and content.labels == list(labels)):
        fresh.append("head.label_embeddings")
    state |= {name: own[name] for name in fresh}
    content.load_into(model, state)
