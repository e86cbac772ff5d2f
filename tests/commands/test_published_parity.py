"""Published experiments of every architecture, from the command line, against the goldens."""

import functools

import numpy as np
import pytest
import torch

from lib import predictor
from tests.helpers import goldens
from tests.helpers.commands import run_here
from tests.helpers.published import write_experiment, write_golden_data

ARCHS = goldens.shapes("arch_keys")
SETTINGS = {
    "tresnet_l": {"orid_norm": True},
    "tresnet_l21k": {"orid_norm": True},
    "vit_large_patch16_224": {"rm_cls": True},
    "swin_large_patch4_window12_384_in22k": {"img_size": 384},
}


@pytest.fixture(scope="module")
def golden():
    return goldens.arrays("arch")


# the golden images that evaluate.py scores; a large network takes ten seconds or more for one
ROWS = {
    "resnet101": [0],
    "tresnet_l": [1],
    "tresnet_l21k": [2],
    "vit_large_patch16_224": [],
    "swin_large_patch4_window12_384_in22k": [3],
}


@pytest.fixture
def one_model(monkeypatch, no_initial_values):
    """Commands share the model that was loaded first."""
    for name in ("load_experiment", "prepare_for_inference"):
        monkeypatch.setattr(predictor, name, functools.cache(getattr(predictor, name)))


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("arch", ARCHS)
def test_parity_arch(arch, whole, golden, tmp_path, monkeypatch, capsys, one_model):
    """Logits and attention; scores of images by evaluate.py, a page by infer.py.

    Unless `whole`, of few images, and with norms folded in one architecture.
    """
    folded = whole or arch == "resnet101"
    seed, rows = int(golden["seed"]), [0, 1, 2, 3] if whole else ROWS[arch]
    write_golden_data(tmp_path, golden, rows)
    state = goldens.published_state(ARCHS[arch], seed)
    experiment = write_experiment(tmp_path, state, arch=arch, **SETTINGS.get(arch, {}))
    del state
    monkeypatch.chdir(tmp_path)
    if not folded:
        monkeypatch.setattr(predictor, "prepare_for_inference", lambda model, size: model)

    loaded = predictor.load_experiment(experiment)
    with torch.no_grad():
        output = loaded.model(goldens.image_batch(loaded.config.img_size, seed))
    np.testing.assert_allclose(output.logits, golden[f"{arch}.logits"], atol=1e-4)
    patches = output.attention.shape[-1]
    np.testing.assert_allclose(
        patches * output.attention, patches * golden[f"{arch}.alpha"], atol=1e-3
    )

    flags = ("--exp-dir", experiment, "--device", "cpu", "--workers", "0", "--batch-size")
    if rows:
        assert run_here(monkeypatch, capsys, "evaluate.py", *flags, "4").code == 0
        with np.load(experiment / "scores.npz") as file:
            np.testing.assert_allclose(file["scores"], golden[f"{arch}.scores"][rows], atol=1e-4)
    if folded:
        assert run_here(monkeypatch, capsys, "infer.py", *flags, "1", "--limit", "1").code == 0
        assert (experiment / "visualization" / "index.html").is_file()
    assert predictor.load_experiment.cache_info().misses == 1
