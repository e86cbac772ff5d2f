"""Exports an experiment as one program that runs without this project: ONNX, or PyTorch's exported
program.

Shapes: B images, C labels, S image side, H x W patches. The program takes `images`, uint8
(B, S, S, 3), RGB as Pillow reads and resizes it, and gives `scores` (B, C) in [0, 1] and the
heatmaps that the head has, `evidence` and `attention` (B, C, H, W); normalisation, sigmoid and
softmax are inside, and B is free.
"""

import contextlib
import importlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lib.common.cli import UPRIGHT
from lib.common.errors import UserError, writing
from lib.common.failures import quoted
from lib.common.files import file_digest, staged_folder
from lib.data.augment import resize
from lib.data.dataset import read_image
from lib.predictor import Predictor
from models import registry
from models.classifier import Classifier

TOLERANCE = 1e-4
ONE_FILE = 1.8e9  # bytes of weights from which an ONNX file, at most 2 GB, keeps them beside it
TOGETHER = 8  # images on which a program is tried at once

RunProgram = Callable[[np.ndarray], Sequence[np.ndarray]]  # images -> scores and heatmaps


class Program(nn.Module):
    """A network with all the steps from images of its side to scores."""

    def __init__(self, model: Classifier, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.model, self.grid = model, model.grid
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images, uint8 (B, S, S, 3) -> scores (B, C) and heatmaps (B, C, H, W), float32."""
        pixels = images.permute(0, 3, 1, 2).float() / 255
        output = self.model((pixels - self.mean) / self.std)
        maps = [output.heatmaps(name).unflatten(-1, self.grid) for name in self.model.maps]
        return output.logits.sigmoid(), *maps


class Format(NamedTuple):
    """A form of export: its file, the packages that it needs, and how to write and to run it."""

    file: str
    packages: tuple[str, ...]
    write: Callable[[Program, Tensor, Path, dict[str, str]], None]
    load: Callable[[Path], RunProgram]


def export_graph(predictor: Predictor, form: str, target: Path, images: np.ndarray) -> float:
    """Write the program of `predictor`, on the CPU, as `form` ("onnx" or "torch_export") to the
    folder `target`.

    What is written is loaded and run on `images` (B, S, S, 3), a few at once and the first one
    alone; gives the largest difference from the predictor's float32 scores and heatmaps. Raises
    `UserError` where that is more than 1e-4, where the network cannot be exported, or where a
    package is missing; nothing is written then.
    """
    chosen, config = FORMATS[form], predictor.config
    _require_packages(form)
    pixels = registry.normalization(config.normalization, registry.find_arch(config.arch))
    program = Program(predictor.model, *pixels).eval()
    with staged_folder(target) as stage:
        file = stage / chosen.file
        example = torch.zeros(2, config.img_size, config.img_size, 3, dtype=torch.uint8)
        with writing(target), _silent_exporters(), torch.no_grad():
            try:
                chosen.write(program, example, file, metadata(predictor))
            except OSError:
                raise
            except Exception as error:  # the exporters fail in many ways
                network = f"{config.model} on {config.arch}"
                raise UserError(
                    f"--format {form}: {network} cannot be exported: {quoted(error)}"
                ) from error
        predictor.amp = False
        largest = _largest_difference(predictor, chosen.load(file), images)
        if not largest <= TOLERANCE:
            raise UserError(
                f"--format {form}: the exported program differs from PyTorch's scores or heatmaps "
                f"by {largest:.2g}, more than {TOLERANCE:g}; nothing was written"
            )
    return largest


def pictures(predictor: Predictor, paths: Sequence[str]) -> np.ndarray:
    """Picture files as the program takes them: uint8 (B, S, S, 3)."""
    size, exif = predictor.config.img_size, predictor.config.exif
    return np.stack([np.asarray(resize(read_image(path, exif), size)) for path in paths])


def noise(predictor: Predictor, count: int) -> np.ndarray:
    """Drawn pixels (count, S, S, 3), where no picture is at hand."""
    size = predictor.config.img_size
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def metadata(predictor: Predictor) -> dict[str, str]:
    """What a user of the file must know: text, lists as JSON."""
    config, tuning = predictor.config, predictor.tuning
    turned = ", turned upright by EXIF before" if config.exif == UPRIGHT else ""
    facts: dict[str, Any] = {
        "checkpoint": file_digest(predictor.experiment.best_checkpoint),
        "labels": predictor.labels,
        "thresholds": predictor.cutoffs().values.astype(float).tolist(),
        "criterion": tuning.criterion if tuning else "fixed",
        "temperature": tuning.temperature if tuning else 1.0,
        "image_size": config.img_size,
        "arch": config.arch,
        "input": "RGB, uint8, resized to image_size x image_size (bilinear, aspect ignored)"
        + turned,
    }
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in facts.items()
    }


def _require_packages(form: str) -> None:
    packages = FORMATS[form].packages
    for name in packages:
        try:
            importlib.import_module(name)
        except (ImportError, OSError) as error:  # OSError: of a library in it
            raise UserError(
                f"--format {form}: needs the package {name}: pip install {' '.join(packages)} "
                f"({quoted(error)})"
            ) from error


def _largest_difference(predictor: Predictor, run: RunProgram, images: np.ndarray) -> float:
    """Of the program's scores and heatmaps from the predictor's; infinite for other shapes."""
    differences = []
    groups = (images[start : start + TOGETHER] for start in range(0, len(images), TOGETHER))
    for part in (images[:1], *groups):
        scores, heatmaps = predictor.score(list(part), predictor.model.maps)
        expected = (scores, *heatmaps.swapaxes(0, 1))
        for one, other in zip(run(part), expected, strict=True):
            same = one.shape == other.shape
            differences.append(np.abs(one - other).max() if same else np.inf)
    return float(np.max(differences))  # nan if one of them is


def _write_onnx(program: Program, example: Tensor, file: Path, facts: dict[str, str]) -> None:
    import onnx

    size = sum(tensor.nbytes for tensor in program.state_dict().values())
    exported = torch.onnx.export(
        program,
        (example,),
        input_names=["images"],
        output_names=["scores", *program.model.maps],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        verbose=False,
    )
    assert exported  # as with dynamo=True
    exported.model.metadata_props.update(facts)
    exported.save(str(file), external_data=size > ONE_FILE)
    onnx.checker.check_model(str(file))


def _load_onnx(file: Path) -> RunProgram:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(file), options, ["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})


def _write_torch(program: Program, example: Tensor, file: Path, facts: dict[str, str]) -> None:
    batch = torch.export.Dim("batch")
    exported = torch.export.export(program, (example,), dynamic_shapes=({0: batch},))
    torch.export.save(exported, str(file), extra_files={"metadata.json": json.dumps(facts)})


def _load_torch(file: Path) -> RunProgram:
    module = torch.export.load(str(file)).module()

    def run(images: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            return [output.numpy() for output in module(torch.from_numpy(images))]

    return run


@contextlib.contextmanager
def _silent_exporters() -> Iterator[None]:
    """Silence the exporters' logs, prints and warnings."""
    with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(None):
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


FORMATS = {
    "onnx": Format("model.onnx", ("onnx", "onnxscript", "onnxruntime"), _write_onnx, _load_onnx),
    "torch_export": Format("model.pt2", (), _write_torch, _load_torch),
}
