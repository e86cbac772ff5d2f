"""Exported programs: written, run without torch, and refused where they are not the same."""

import ast
import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.export import rows
from lib.data.augment import resize
from lib.data.dataset import read_image
from lib.export import graph as export_graph
from lib.predictor import Predictor
from tests.helpers.commands import ROOT, error_where, make_data, make_experiment, run_here
from tests.lib.scoring.test_tuning import write_tuning

EXPERIMENT = "experiments/mlic_colors/exp1"
EXPORT = ("scripts/export.py", "--exp-dir", EXPERIMENT, "--format")


@pytest.fixture
def here(colors, monkeypatch, capsys):
    return lambda *command: run_here(monkeypatch, capsys, *EXPORT, *command)


def example() -> str:
    """The code of docs/export.md."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "export.md").read_text(), re.S)
    return code


def test_the_example_runs_without_torch(colors, here):
    write_tuning(colors, {"red": 0.0, "green": 1.0, "blue": 0.0})
    result = here("onnx")
    assert result.code == 0, result.err
    assert re.search(r" \S+e-0[5-9] on 4 images", result.out)
    folder = colors / "onnx"
    assert [file.name for file in folder.iterdir()] == ["model.onnx"]
    picture = Image.open("data/colors/images/test0.png")
    picture.save(folder / "photo.png")
    code = "import sys; sys.modules['torch'] = None\n" + example().replace(".jpg", ".png")
    code += "print(json.dumps([one.tolist() for one in (scores, *heatmaps)]), sorted(facts))"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found, arrays = done.stdout.splitlines()
    arrays, names = arrays.rsplit(" [", 1)
    scores, evidence = Predictor(EXPERIMENT, device="cpu")([picture])
    attention = Predictor(EXPERIMENT, device="cpu", map="attention")([picture])[1]
    for one, other in zip(json.loads(arrays), (scores, evidence, attention), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert sorted(ast.literal_eval(found)) == ["blue", "red"]
    for name in ("arch", "criterion", "image_size", "labels", "temperature", "thresholds"):
        assert repr(name) in names


def test_the_exported_program_of_torch_says_the_same(colors, here):
    result = here("torch_export", "--images", "data/colors/images", "--save-dir", "out")
    assert result.code == 0 and "on 72 images" in result.out, result.err
    extra = {"metadata.json": ""}
    program = torch.export.load("out/model.pt2", extra_files=extra).module()
    facts = json.loads(extra["metadata.json"])
    assert json.loads(facts["labels"]) == ["red", "green", "blue"]
    assert json.loads(facts["thresholds"]) == [0.5] * 3 and facts["criterion"] == "fixed"
    predictor = Predictor(EXPERIMENT, device="cpu")
    images = export_graph.pictures(predictor, [f"data/colors/images/val{n}.png" for n in range(5)])
    scores, evidence, attention = program(torch.from_numpy(images))
    expected = predictor(list(images))
    np.testing.assert_allclose(scores.detach(), expected[0], atol=1e-5)
    np.testing.assert_allclose(evidence.detach(), expected[1], atol=1e-5)
    expected = predictor.score(list(images), ["attention"])[1][:, 0]
    np.testing.assert_allclose(attention.detach(), expected, atol=1e-5)
    assert error_where(here("torch_export", "--save-dir", "out")) == "out"


@pytest.mark.parametrize("exif", ["upright", "stored"])
def test_pictures_are_read_as_in_training(colors, exif):
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.open("data/colors/images/test0.png").save("a.png", exif=turned)
    predictor = Predictor(EXPERIMENT, device="cpu")
    predictor.config = dataclasses.replace(predictor.config, exif=exif)
    (found,) = export_graph.pictures(predictor, ["a.png"])
    expected = resize(read_image("a.png", exif), 64)
    np.testing.assert_array_equal(found, np.asarray(expected))
    assert ("EXIF" in export_graph.metadata(predictor)["input"]) == (exif == "upright")


@pytest.mark.parametrize("wrong", [2e-4, np.nan, "shape"])
def test_a_program_that_differs_is_not_kept(colors, here, monkeypatch, wrong):
    form = export_graph.FORMATS["torch_export"]
    monkeypatch.setattr(export_graph, "TOGETHER", 3)
    calls = []

    def off(file):
        """Right for the first image alone and for the first three, not for the fourth."""
        run = form.load(file)

        def run_off(images):
            calls.append(len(images))
            if len(calls) < 3:
                return run(images)
            return [one[..., None] if wrong == "shape" else one + wrong for one in run(images)]

        return run_off

    monkeypatch.setitem(export_graph.FORMATS, "torch_export", form._replace(load=off))
    assert error_where(here("torch_export")) == "--format torch_export"
    assert calls == [1, 3, 1]
    assert not (colors / "torch_export").exists()
    assert not [path for path in colors.iterdir() if path.name.startswith(".")]


def test_what_cannot_be_exported_is_one_line(colors, here, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("no such\noperator")

    form = export_graph.FORMATS["torch_export"]._replace(write=fail)
    monkeypatch.setitem(export_graph.FORMATS, "torch_export", form)
    assert error_where(here("torch_export")) == "--format torch_export"
    monkeypatch.setitem(sys.modules, "onnx", None)
    result = here("onnx")
    assert error_where(result) == "--format onnx" and "pip install onnx" in result.err
    assert not (colors / "onnx").exists()


def test_without_the_data_made_up_pictures_are_compared(colors, here):
    Path("data").rename("elsewhere")
    result = here("torch_export")
    assert result.code == 0 and "4 made-up images" in result.out
    assert error_where(here("published", "--images", "x.png")) == "--images"


@pytest.mark.parametrize("form", ["onnx", "torch_export"])
@pytest.mark.parametrize("head", ["linear", "csra", "ml_decoder", "q2l"])
def test_other_heads(head, form, tmp_path, monkeypatch, capsys):
    """Batches of other sizes than the one that the program was traced with come out the same."""
    monkeypatch.chdir(tmp_path)
    make_data(tmp_path)
    experiment = make_experiment(tmp_path, "--model", head, "--embed-type", "bert")
    command = ("scripts/export.py", "--exp-dir", experiment, "--save-dir", "out", "--format", form)
    result = run_here(monkeypatch, capsys, *command)
    assert result.code == 0, result.err
    assert re.search(r" \S+e[-+]\d\d on 4", result.out)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "torch_export"])
@pytest.mark.parametrize(
    "arch", ["test_vit", "resnet18", "tresnet_m", "swin_tiny_patch4_window7_224"]
)
def test_small_ones_of_each_family(arch, form):
    ((*_, outcome),) = rows(arch, [form], None)
    assert float(outcome) < 1e-4
