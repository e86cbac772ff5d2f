"""Published experiments of every architecture, from the command line, against the goldens."""

import numpy as np
import pytest
import torch

from lib.experiment.loading import load_experiment
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


@pytest.mark.parametrize("arch", ARCHS)
def test_parity_arch(arch, golden, tmp_path, monkeypatch, capsys):
    """Scores of four pictures by evaluate.py, a page by infer.py; logits and attention."""
    seed = int(golden["seed"])
    write_golden_data(tmp_path, golden)
    state = goldens.published_state(ARCHS[arch], seed)
    experiment = write_experiment(tmp_path, state, arch=arch, **SETTINGS.get(arch, {}))
    del state
    monkeypatch.chdir(tmp_path)
    flags = ("--exp-dir", experiment, "--device", "cpu", "--workers", "0")

    assert run_here(monkeypatch, capsys, "evaluate.py", *flags).code == 0
    with np.load(experiment / "scores.npz") as file:
        np.testing.assert_allclose(file["scores"], golden[f"{arch}.scores"], atol=1e-4)

    assert run_here(monkeypatch, capsys, "infer.py", *flags, "--limit", "1").code == 0
    assert (experiment / "visualization" / "index.html").is_file()

    loaded = load_experiment(experiment)
    with torch.no_grad():
        output = loaded.model(goldens.image_batch(loaded.config.img_size, seed))
    np.testing.assert_allclose(output.logits, golden[f"{arch}.logits"], atol=1e-4)
    patches = output.attention.shape[-1]
    np.testing.assert_allclose(
        patches * output.attention, patches * golden[f"{arch}.alpha"], atol=1e-3
    )
