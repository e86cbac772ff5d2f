"""`infer.py --engine onnxruntime`: ONNX Runtime computes an experiment's network, on the CPU."""

import torch
from torch import Tensor, nn

from lib.common.console import print_note
from lib.common.errors import UserError
from lib.common.files import file_digest
from lib.export.graph import (
    FORMATS,
    TOGETHER,
    RunProgram,
    export_graph,
    noise,
    onnx_run,
    onnx_session,
    require_packages,
)
from lib.predictor import Predictor
from models.output import ATTENTION, EVIDENCE, Output

FLAG, FORMAT = "--engine onnxruntime", "onnx"


class OnnxNetwork(nn.Module):
    """A program that `export_graph` wrote, from pixels (B, 3, S, S), uint8, to `Output`.

    It gives logits and evidence back from scores and the softmax over patches, so evidence lacks a
    constant of each label, which heatmaps do not depend on.
    """

    def __init__(self, run: RunProgram) -> None:
        super().__init__()
        self._run = run

    def forward(self, pixels: Tensor) -> Output:
        """Pixels (B, 3, S, S), uint8 -> `Output`."""
        images = pixels.permute(0, 2, 3, 1).contiguous()
        # a few at once, as the program takes more memory than the network does
        parts = [self._run(part.numpy()) for part in images.split(TOGETHER)]
        found = {
            name: torch.cat([torch.from_numpy(part[name]) for part in parts]) for name in parts[0]
        }
        maps = {name: found[name].flatten(2) for name in (ATTENTION, EVIDENCE) if name in found}
        evidence = maps[EVIDENCE].log() if EVIDENCE in maps else None
        return Output(found["scores"].logit(), None, maps.get(ATTENTION), evidence)


def use_onnxruntime(predictor: Predictor) -> None:
    """Let ONNX Runtime compute the network of `predictor`, in float32.

    It runs the program in the experiment's `onnx/`, which the main process exports first where it
    is missing. Raises `UserError` for a device other than the CPU, a missing package, a network
    that cannot be exported, and a program that is of another checkpoint.
    """
    if predictor.device.type != "cpu":
        raise UserError(f"{FLAG}: computes on the CPU: pass --device cpu with it")
    folder = predictor.experiment.path / FORMAT
    file = folder / FORMATS[FORMAT].file

    def export() -> None:
        if file.exists():
            return
        if folder.exists():
            raise UserError(f"{FLAG}: {folder} has no {file.name}: remove that folder")
        print_note(f"{FLAG}: exports the model to {file}, once")
        export_graph(predictor, FORMAT, folder, noise(predictor, TOGETHER), FLAG)

    world = predictor.world
    with world.raise_on_all_ranks():
        needed = ("onnxruntime",) if file.exists() else FORMATS[FORMAT].packages
        require_packages(needed, FLAG)
    world.broadcast_from_main(export)
    with world.raise_on_all_ranks():
        try:
            session = onnx_session(file)
        except Exception as error:  # ONNX Runtime's own ones
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"{FLAG}: {file} cannot be read: remove {folder}: {reason}") from error
        made_from = session.get_modelmeta().custom_metadata_map.get("checkpoint")
        if made_from != file_digest(predictor.experiment.best_checkpoint):
            raise UserError(f"{FLAG}: {file} is of another checkpoint: remove {folder}")
    predictor.network, predictor.preprocess = OnnxNetwork(onnx_run(session)), nn.Identity()
    predictor.amp = False
