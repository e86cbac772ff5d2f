"""infer.py --engine onnxruntime: the same tags and heatmaps, from the exported program."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lib.common.errors import UserError
from lib.export import engine, graph
from tests.helpers.commands import error_line, run_here

COMMAND = ("infer.py", "--exp-dir", "experiments/toy", "--workers", "0", "--threshold", "0")
ENGINE = ("--engine", "onnxruntime")


@pytest.fixture
def infer(toy, monkeypatch, capsys):
    return lambda *flags: run_here(monkeypatch, capsys, *COMMAND, *flags)


def shown(folder):
    """Predictions by path, and scores, evidence and attention of each image, of the last run."""
    lines = (folder / "visualization" / "predictions.jsonl").read_text().splitlines()
    notes = [json.loads(line) for line in lines]
    grids = [
        dict(np.load(folder / "visualization" / note["heatmaps"], allow_pickle=False))
        for note in notes
    ]
    return {note["path"]: note["predicted"] for note in notes}, grids


def test_tags_and_heatmaps_are_the_same(infer, toy, monkeypatch):
    assert infer("--map", "both").code == 0
    expected, expected_grids = shown(toy)
    sizes = []

    def counted(session):
        run = graph.onnx_run(session)
        return lambda images: sizes.append(len(images)) or run(images)

    monkeypatch.setattr(engine, "onnx_run", counted)
    result = infer("--map", "both", *ENGINE)
    assert result.code == 0, result.err
    assert "exports the model to experiments/toy/onnx/model.onnx, once" in result.err
    found, grids = shown(toy)
    assert len(found) == 9 and found.keys() == expected.keys()
    for path, tags in found.items():
        assert [tag["label"] for tag in tags] == [tag["label"] for tag in expected[path]]
    for one, other in zip(grids, expected_grids, strict=True):
        assert one.keys() == other.keys()
        for name in ("scores", "evidence", "attention"):
            np.testing.assert_allclose(one[name], other[name], atol=1e-4)
    assert max(sizes) <= graph.TOGETHER and sum(sizes) == 9
    program = toy / "onnx" / "model.onnx"
    before = program.stat().st_mtime_ns
    again = infer("--tags-only", *ENGINE, "--precision", "float32")
    assert again.code == 0 and "exports" not in again.err and "precision: float32" in again.out
    assert program.stat().st_mtime_ns == before


def test_a_program_of_another_checkpoint_is_refused(infer, toy):
    assert infer("--tags-only", *ENGINE).code == 0
    file = toy / "checkpoints" / "best_ema_model.pth"
    content = torch.load(file, weights_only=True)
    torch.save(content | {"note": 1}, file)
    line = error_line(infer("--tags-only", *ENGINE))
    assert "onnx/model.onnx is of another checkpoint: remove experiments/toy/onnx" in line


def test_what_cannot_be_done_is_one_line(infer, toy, monkeypatch):
    assert "computes in float32" in error_line(infer(*ENGINE, "--precision", "bfloat16"))
    assert "--engine cannot be combined with --serve" in error_line(infer(*ENGINE, "--serve"))
    with pytest.raises(UserError, match="computes on the CPU: pass --device cpu"):
        engine.use_onnxruntime(SimpleNamespace(device=torch.device("cuda")))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnx", None)
        line = error_line(infer(*ENGINE))
    assert "--engine onnxruntime: needs the package onnx: pip install onnx onnxscript" in line
    (toy / "onnx").mkdir()
    assert "experiments/toy/onnx has no model.onnx: remove that folder" in error_line(
        infer(*ENGINE)
    )
    (toy / "onnx").rmdir()

    def fail(*arguments):
        raise RuntimeError("no such operator")

    with monkeypatch.context() as patch:
        patch.setitem(graph.FORMATS, "onnx", graph.FORMATS["onnx"]._replace(write=fail))
        line = error_line(infer(*ENGINE))
    assert "--engine onnxruntime: mlic on test_resnet cannot be exported: no such operator" in line
    assert not (toy / "onnx").exists()
    (toy / "onnx").mkdir()
    (toy / "onnx" / "model.onnx").write_bytes(b"no program")
    assert "model.onnx cannot be read: remove experiments/toy/onnx" in error_line(infer(*ENGINE))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    line = error_line(infer(*ENGINE))
    assert "--engine onnxruntime: needs the package onnxruntime: pip install onnxruntime (" in line
