"""The recipes of docs/extending.md are applied to a copy of the project, which is then run."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import torch

from tests.helpers.commands import ROOT, TINY, make_data

DIFFS = re.findall(
    r"^```diff\n(.*?)^```$", (ROOT / "docs" / "extending.md").read_text(), re.MULTILINE | re.DOTALL
)


def test_a_loss_a_metric_an_attention_and_label_embeddings(tmp_path):
    for name in ("lib", "models", "train.py", "evaluate.py", "embedding.py"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    assert len(DIFFS) == 9
    for diff in DIFFS:
        apply = ["git", "apply", "--recount", "-"]
        done = subprocess.run(apply, cwd=tmp_path, input=diff, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr + diff
    make_data(tmp_path)
    for command in (
        ("embedding.py", "--data", "colors", "--letters"),
        ("train.py", *TINY, *"--data colors --batch-size 4 --max-epochs 1".split())
        + tuple("--loss focal --gamma-neg 3 --attention dot --embed-type letters".split()),
        ("evaluate.py", "--exp-dir", "experiments/mlic_colors/exp1"),
    ):
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, text=True, capture_output=True
        )
        assert done.returncode == 0, done.stderr
    experiment = tmp_path / "experiments" / "mlic_colors" / "exp1"
    row = json.loads((experiment / "history.jsonl").read_text())
    assert 0 <= row["exact_match"] <= 1 and 0 <= row["exact_match_ema"] <= 1
    assert 0 < row["train_loss"] < 10 and 0 < row["val_loss_ema"] < 10
    results = json.loads((experiment / "results.json").read_text())
    assert results["exact_match"] == row["exact_match_ema"]
    state = torch.load(experiment / "checkpoints" / "best_ema_model.pth", weights_only=True)[
        "model"
    ]
    letters = np.load(tmp_path / "data" / "colors" / "letters.npy")
    assert letters.sum(axis=1).tolist() == [3, 5, 4]  # red, green, blue
    np.testing.assert_array_equal(state["head.label_embeddings"], letters)
    assert state["head.inter_modal.query.weight"].shape == (1024, 26)
