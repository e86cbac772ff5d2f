"""The heads of `--model`: a row of `HEADS` says all that the project needs to know of one.

A head maps patch tokens to `Output`. `mlic` is the method's; the others are written from their
papers. Imports no torch, since the flags of train.py are made from this table.
"""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

EVIDENCE, ATTENTION = "evidence", "attention"  # maps of `models.output.Output`
BOTH = "both"  # of them, side by side
# what each map shows, in a sentence
MEANINGS = {
    EVIDENCE: "How much each patch contributes to the label's score.",
    ATTENTION: "Where the label looked: the weights with which it gathered the patches.",
}


class HeadSpec(NamedTuple):
    """One head.

    `path` is its module and class in this package, `title` what it is in a few words. `flags` are
    the fields of the configuration that belong to it alone; its class gets the value of each that
    it has a parameter for. `label_parts` begin the names of those parts of its state that belong
    to the labels, and `maps` are those that it gives, the one that decides the score first.
    `label_tensors` is about how many times (B, C, D) numbers a training step holds, as
    `benchmarks/head.py` measures them.
    """

    path: str
    title: str
    flags: tuple[str, ...]
    label_parts: tuple[str, ...]
    maps: tuple[str, ...]
    label_tensors: int = 0

    def build(self, facts: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
        """The head, a module. Its class names as parameters what it needs of `facts`: num_features
        D, num_labels C, grid (H, W), prefix_tokens P and label_embeddings (C, T) or None; and of
        its `flags`, whose values are in `settings`."""
        module, name = self.path.split(".")
        head = getattr(importlib.import_module(f"{__name__}.{module}"), name)
        given = {**facts, **{flag: settings[flag] for flag in self.flags if flag in settings}}
        takes = inspect.signature(head).parameters
        return head(**{name: given[name] for name in takes if name in given})


# the choices of --model
HEADS = {
    "mlic": HeadSpec(
        "mlic.MLICHead",
        "the method's",
        (
            *("embed_type", "embed_norm", "num_layers", "num_heads", "pos", "normalize_before"),
            *("tau", "no_context", "lamda"),
        ),
        ("object_classifier.", "patch_classifier."),
        (EVIDENCE, ATTENTION),
        label_tensors=9,
    ),
    "linear": HeadSpec(
        "linear.LinearHead", "a linear layer on the mean patch", (), ("",), (EVIDENCE,)
    ),
    "csra": HeadSpec(
        "csra.CSRAHead",
        "class-specific residual attention",
        ("csra_heads", "csra_lambda"),
        ("",),
        (EVIDENCE, ATTENTION),
    ),
    "ml_decoder": HeadSpec(
        "ml_decoder.MLDecoderHead", "ML-Decoder", (), ("queries", "output"), (ATTENTION,)
    ),
    "q2l": HeadSpec(
        "q2l.Q2LHead",
        "Query2Label",
        ("hidden_dim",),
        ("queries", "classifier."),
        (ATTENTION,),
        label_tensors=46,
    ),
}
