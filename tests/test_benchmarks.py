"""The step benchmarks measure what they name."""

import json

import pytest

from tests.helpers.commands import run_here

TOY = "--arch test_resnet --img-size 32 --batch-size 2 --num-labels 3 --repeats 1 --json found.json"


PEERS = ("linear", "csra", "ml_decoder", "q2l")


@pytest.fixture
def measure(tmp_path, monkeypatch, capsys):
    def run(name, *flags):
        monkeypatch.chdir(tmp_path)
        result = run_here(monkeypatch, capsys, f"benchmarks/{name}.py", *TOY.split(), *flags)
        assert result.code == 0, result.err
        return json.loads((tmp_path / "found.json").read_text())

    return run


@pytest.mark.parametrize("step", ["train_step", "eval_step"])
def test_heads_of_other_methods_beside_the_method(step, measure):
    found = measure(step, "--model", "mlic", *PEERS)
    sizes = {row["form"]: row["head parameters, M"] for row in found["rows"]}
    assert list(sizes) == ["literal", "method", "backbone", *PEERS]
    assert sizes["linear"] < sizes["q2l"] < sizes["method"] < sizes["ml_decoder"]
    seconds = {row["form"]: row["seconds"] for row in found["rows"]}
    name = {"train_step": "train_step_vs_q2l", "eval_step": "eval_vs_q2l"}[step]
    assert found["figures"][name] == pytest.approx(seconds["q2l"] / seconds["method"])


@pytest.mark.parametrize("peers", [(), ("csra",)])
def test_heads_alone(peers, measure):
    found = measure("head", *(("--model", *peers) if peers else ()))
    assert [row["head"] for row in found["rows"]] == ["mlic", *(peers or PEERS)]
    assert all(row["its peak MiB"] > 0 for row in found["rows"])
    for key in ("training", "eval"):
        speeds = {row["head"]: row[f"{key}, images/s"] for row in found["rows"]}
        ratio = found["figures"][f"{key}_vs_csra"]
        assert ratio == pytest.approx(speeds["mlic"] / speeds["csra"])
