"""The recipes of docs/extending.md are applied to a copy of the project, which is then run."""

import json
import re
import shutil
import subprocess
import sys

from tests.helpers.commands import ROOT, TINY, make_data

DIFFS = re.findall(
    r"^```diff\n(.*?)^```$", (ROOT / "docs" / "extending.md").read_text(), re.MULTILINE | re.DOTALL
)


def test_the_recipes_of_a_loss_and_a_metric(tmp_path):
    for name in ("lib", "models", "train.py", "evaluate.py"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    assert len(DIFFS) == 3
    for diff in DIFFS:
        apply = ["git", "apply", "--recount", "-"]
        done = subprocess.run(apply, cwd=tmp_path, input=diff, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr + diff
    make_data(tmp_path)
    flags = (*TINY, *"--data colors --batch-size 4 --max-epochs 1".split())
    loss = ("--loss", "focal", "--gamma-neg", "3")
    train = ("train.py", *flags, *loss)
    for command in (train, ("evaluate.py", "--exp-dir", "experiments/mlic_colors/exp1")):
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
