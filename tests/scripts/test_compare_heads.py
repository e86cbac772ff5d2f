"""scripts/compare_heads.py: trains what is missing, and writes one table."""

import csv
import json
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lib.config import Config
from scripts import compare_heads
from tests.helpers.commands import TINY, error_where, make_data, run_here, start

FLAGS = (*TINY, *"--data colors --batch-size 4 --max-epochs 1 --pos --lamda 0.4".split())
HEADS = ("--heads", "linear", "mlic", "mlic --lamda 0 --no-context")
OTHERS = ("--pos", "--seed 3", "--data x")  # flags that no head may have of its own


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_data(tmp_path)
    return lambda *flags: run_here(monkeypatch, capsys, "scripts/compare_heads.py", *flags)


@pytest.fixture
def quickly(here, monkeypatch, capsys, no_curves):
    """With the other commands in this process too; returns the lines that were printed."""

    def run(*command):
        result = run_here(monkeypatch, capsys, *command)
        assert result.code == 0, result.err

    def compare(*flags):
        monkeypatch.setattr(sys, "argv", ["compare_heads.py", *flags])
        compare_heads.main()
        return capsys.readouterr().out

    monkeypatch.setattr(compare_heads, "run", run)
    return compare


def trained():
    return sorted(str(file.parent) for file in Path("experiments").glob("*_colors/exp*/train.log"))


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_heads_by_one_recipe(quickly):
    out = quickly(*HEADS, "--seeds", "0", "1", *FLAGS)
    assert len(trained()) == 6
    table = Path("experiments/heads_colors/heads.md").read_text()
    assert table in out
    head, _, linear, mlic, ablation = map(cells, table.splitlines())
    assert head[:3] == ["head", "seeds", "mAP"] and "eval, images/s" in head
    assert "ECE, calibrated" in head and "pointing accuracy" not in head
    assert linear[:2] == ["linear", "2"] and " ± " in mlic[2]
    assert " ± " not in mlic[-1]  # a speed
    assert ablation[:2] == ["mlic --lamda 0 --no-context", "2"]
    with open("experiments/heads_colors/heads.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["seed"] for row in rows] == ["0", "1"] * 3
    # 96 features to 3 labels, with biases; the method has more
    parameters = [float(row["head_parameters"]) for row in rows]
    assert parameters[0] * 1e6 == pytest.approx(96 * 3 + 3)
    assert parameters[2] > parameters[4] > parameters[0]
    configs = [Config.load(Path(row["run"]) / "config.yaml") for row in rows[::2]]
    expected = [(False, 1.0, False), (True, 0.4, False), (True, 0.0, True)]
    assert [(one.pos, one.lamda, one.no_context) for one in configs] == expected


def test_what_is_there_is_not_made_again(quickly):
    """A run that was stopped goes on; a finished one with other flags does not count."""
    Path("data/colors/val.txt").unlink()
    quickly("--heads", "linear", "linear", "--seeds", "0", "0", *FLAGS)  # each once
    head, _, linear = Path("experiments/heads_colors/heads.md").read_text().splitlines()
    assert "ECE" not in head and cells(linear)[:2] == ["linear", "1"]
    made = [*Path("experiments").rglob("*.pth"), *Path("experiments").rglob("results.json")]
    before = {file: file.stat().st_mtime_ns for file in made}
    quickly("--heads", "linear", "csra", *FLAGS)
    assert len(trained()) == 2
    assert before == {file: file.stat().st_mtime_ns for file in made}
    log = Path("experiments/linear_colors/exp1/train.log")
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))
    quickly("--heads", "linear", *FLAGS)
    assert len(trained()) == 2 and "best EMA mAP" in log.read_text()
    quickly("--heads", "linear", *FLAGS, "--lr", "1e-3")
    assert len(trained()) == 3


def test_runs_on_other_data_do_not_count(quickly):
    """Neither those of other images, nor of other label vectors, under the same names."""
    flags = [*FLAGS]
    flags[flags.index("--embed-type") + 1] = "glove"
    vectors = Path("data/colors/glove.npy")
    np.save(vectors, np.random.default_rng(0).random((3, 300)))
    run = ("--heads", "mlic", "linear", *flags)
    quickly(*run)
    quickly(*run)
    assert len(trained()) == 2
    np.save(vectors, np.random.default_rng(1).random((3, 300)))
    quickly(*run)
    assert len(trained()) == 3
    images = Path("data/colors/train.txt")
    images.write_text("".join(images.read_text().splitlines(keepends=True)[:-2]))
    quickly(*run)
    assert len(trained()) == 5


def test_results_by_other_settings_are_made_again(quickly):
    quickly("--heads", "linear", *FLAGS)
    folder, table = map(
        Path, ("experiments/linear_colors/exp1", "experiments/heads_colors/heads.csv")
    )
    expected = table.read_text().split(",")[:-1]  # without a speed that is measured again
    shutil.copytree("data/colors", "data/others")
    for flags in (("--threshold", "0.9"), ("--data", "others")):
        command = ("evaluate.py", "--exp-dir", str(folder), "--tune-thresholds", "f1", *flags)
        compare_heads.run(*command)
        quickly("--heads", "linear", *FLAGS)
        known = json.loads((folder / "results.json").read_text())["evaluation"]
        assert (known["threshold"], known["data"]) == (0.5, "colors")
        assert table.read_text().split(",")[:-1] == expected


def test_a_signal_ends_the_training_too(here):
    """With SIGTERM to this process alone, as a scheduler may send it."""
    command = ("scripts/compare_heads.py", *HEADS, *FLAGS, "--max-epochs", "9999")
    process = start(*command, cwd=Path.cwd())
    history = Path("experiments/linear_colors/exp1/history.jsonl")
    deadline = time.monotonic() + 120
    while not history.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    epochs = history.read_text()
    time.sleep(1)
    assert history.read_text() == epochs and trained() == ["experiments/linear_colors/exp1"]


@pytest.mark.parametrize(
    ("flags", "where"),
    [
        *((("--heads", "mlp"), "--heads mlp"), (("--heads", ""), "--heads ")),
        *((("--seed", "3"), "--seed"), (("--model", "csra"), "--model")),
        *((("--heads", f"linear {flag}"), flag.split()[0]) for flag in OTHERS),
        (("--heads", "linear --data 'x"), "--heads linear --data 'x"),
        (("--depth", "3"), "unrecognized arguments"),
    ],
)
def test_wrong_flags(here, flags, where):
    assert error_where(here(*FLAGS, *flags)).strip() == where.strip()
    assert not Path("experiments").exists()


def test_a_configuration_as_flags():
    for flags in (FLAGS, ("--amp", "--lr", "9e-05", "--cache", "a b", "-twd", "--norm", "none")):
        config = Config.parse(flags)
        assert Config.parse(list(compare_heads.flags_of(config.to_dict()))) == config
