"""The step benchmarks measure what they name."""

import json

import pytest

from tests.helpers.commands import run_here

TOY = "--arch test_resnet --img-size 32 --batch-size 2 --num-labels 3 --repeats 1 --json found.json"


@pytest.mark.parametrize("step", ["train_step", "eval_step"])
def test_heads_of_other_methods_beside_the_method(step, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    peers = ("linear", "csra", "ml_decoder", "q2l")
    result = run_here(
        monkeypatch, capsys, f"benchmarks/{step}.py", *TOY.split(), "--model", "mlic", *peers
    )
    assert result.code == 0, result.err
    found = json.loads((tmp_path / "found.json").read_text())
    sizes = {row["form"]: row["head parameters, M"] for row in found["rows"]}
    assert list(sizes) == ["literal", "method", "backbone", *peers]
    assert sizes["linear"] < sizes["q2l"] < sizes["method"] < sizes["ml_decoder"]
    seconds = {row["form"]: row["seconds"] for row in found["rows"]}
    name = {"train_step": "train_step_vs_q2l", "eval_step": "eval_vs_q2l"}[step]
    assert found["figures"][name] == pytest.approx(seconds["q2l"] / seconds["method"])


@pytest.mark.parametrize("peers", [(), ("csra",)])
def test_heads_alone(peers, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    chosen = ("--model", *peers) if peers else ()
    result = run_here(monkeypatch, capsys, "benchmarks/head.py", *TOY.split(), *chosen)
    assert result.code == 0, result.err
    found = json.loads((tmp_path / "found.json").read_text())
    names = peers or ("linear", "csra", "ml_decoder", "q2l")
    assert [row["head"] for row in found["rows"]] == ["mlic", *names]
    assert all(row["its peak MiB"] > 0 for row in found["rows"])
    for key in ("training", "eval"):
        speeds = {row["head"]: row[f"{key}, images/s"] for row in found["rows"]}
        ratio = found["figures"][f"{key}_vs_csra"]
        assert ratio == pytest.approx(speeds["mlic"] / speeds["csra"])
