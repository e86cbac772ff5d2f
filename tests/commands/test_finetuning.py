"""Training on from another experiment, on other labels, with a backbone that learns less or not."""

import numpy as np
import pytest
import torch

from lib.training import fit, notes
from tests.helpers.commands import TINY, error_line, make_data, run_here, run_together

START = "experiments/mlic_colors/exp1"
FLAGS = (
    *TINY,
    *"--data colors --img-size 64 --pos --batch-size 8 --max-epochs 2 --lr 1e-2".split(),
    *("--ema-decay", "0.5", "--pretrained-model", START),
)


@pytest.fixture
def here(colors, monkeypatch, capsys, no_curves):
    """The folder of `colors`, whose data have got other labels; calls run train.py there."""
    folder = colors.parents[2]
    for file in (folder / "data" / "colors").glob("*.txt"):
        file.write_text(file.read_text().replace("red", "crimson").replace("blue", "azure"))
    labels = folder / "data" / "colors" / "label.txt"
    labels.write_text(labels.read_text() + "black\n")
    return lambda *flags: run_here(monkeypatch, capsys, "train.py", *FLAGS, *flags)


def state(number, name="best_ema_model"):
    return torch.load(f"experiments/mlic_colors/exp{number}/checkpoints/{name}.pth")


def parts(state, backbone):
    return {name: state[name] for name in state if name.startswith("backbone.") == backbone}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_a_frozen_backbone_stays_to_the_bit(here):
    """Weights and statistics, of the model and of its average; the head learns."""
    start = parts(state(1)["model"], backbone=True)
    result = here("--freeze-backbone")
    assert result.code == 0 and "note: --freeze-backbone" not in result.out, result.err
    last, best = state(2, "last"), state(2)
    for found in (last["model"], last["ema"], best["model"]):
        assert same(parts(found, backbone=True), start)
    assert best["labels"] == ["crimson", "green", "azure", "black"]
    head = parts(state(1)["model"], backbone=False)["head.encoder.0.feed_forward.0.weight"]
    assert not torch.equal(last["model"]["head.encoder.0.feed_forward.0.weight"], head)
    name = "head.intra_modal.context.norm.running_mean"
    assert not torch.equal(last["model"][name], state(1)["model"][name])


@pytest.mark.parametrize(
    "flags",
    ["--backbone-lr-scale 0.01 -twd", pytest.param("--freeze-backbone", marks=pytest.mark.slow)],
)
def test_it_resumes_where_it_was_ended(here, monkeypatch, flags):
    class Ended(BaseException):
        pass

    leave_if_asked = fit.leave_if_asked

    def ending(run, *others):
        leave_if_asked(run, *others)
        if run.state.step == 4:
            raise Ended

    assert here(*flags.split()).code == 0
    with monkeypatch.context() as patched, pytest.raises(Ended):
        patched.setattr(fit, "leave_if_asked", ending)
        here(*flags.split(), "--save-every", "1")
    result = here(*flags.split(), "--resume", "experiments/mlic_colors/exp3")
    assert result.code == 0 and "resumed from step 4" in result.out, result.err
    whole, resumed = state(2, "last"), state(3, "last")
    assert same(whole["model"], resumed["model"]) and same(whole["ema"], resumed["ema"])
    assert whole["schedule"] == resumed["schedule"]
    assert same(state(2)["model"], state(3)["model"])


def test_a_slower_backbone_moves_less(here):
    start = parts(state(1)["model"], backbone=True)
    for flags in ((), ("--backbone-lr-scale", "0.01")):
        assert here(*"--limit 8 --max-epochs 1 --lr-scheduler StepLR".split(), *flags).code == 0
    moved = []
    for number in (2, 3):
        found = state(number, "last")["model"]
        weights = (name for name in start if name.endswith("weight"))
        moved.append(max((found[name] - start[name]).abs().max().item() for name in weights))
    assert moved[1] == pytest.approx(0.01 * moved[0], rel=0.05)


def test_classifiers_are_kept_for_the_same_labels_alone(here, colors):
    """A first epoch at a rate of nothing scores as the run that it starts from."""
    slow = ("--lr", "1e-30", "--max-epochs", "1", "--ema-epoch", "9")
    line = error_line(here("--keep-classifiers"))
    assert "best_ema_model.pth is a checkpoint of other labels: leave the flag out" in line
    assert here("--max-epochs", "1").code == 0
    start = ("--pretrained-model", "experiments/mlic_colors/exp2", *slow)
    assert here("--keep-classifiers", *start).code == 0 and here(*start).code == 0
    before, kept, dropped = (state(number)["model"] for number in (2, 3, 4))
    for name in before:
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            torch.testing.assert_close(kept[name], before[name])
    for name in ("head.object_classifier.weight", "head.patch_classifier.3.weight"):
        assert not torch.allclose(dropped[name], before[name])


def test_classifiers_of_nothing_are_not_kept(colors, monkeypatch, capsys):
    flags = (*TINY, "--data", "colors", "--keep-classifiers")
    line = error_line(run_here(monkeypatch, capsys, "train.py", *flags))
    assert "--keep-classifiers: belongs to --pretrained-model" in line


def test_centered_label_embeddings(tmp_path, monkeypatch, capsys, no_curves):
    """The network has them without their common part."""
    monkeypatch.chdir(tmp_path)
    data = make_data(tmp_path)
    vectors = np.random.default_rng(0).normal(5, 0.1, (3, 8)).astype(np.float32)
    np.save(data / "text.npy", vectors)
    flags = "--data colors --max-epochs 1 --limit 8 --embed-type text --embed-norm center"
    assert run_here(monkeypatch, capsys, "train.py", *TINY, *flags.split()).code == 0
    file = tmp_path / "experiments/mlic_colors/exp1/checkpoints/best_ema_model.pth"
    found = torch.load(file, weights_only=True)["model"]["head.label_embeddings"].numpy()
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-6)
    assert found.std() == pytest.approx(1) and found.dtype == np.float32
    differences = vectors - vectors.mean(axis=0)
    np.testing.assert_allclose(found / differences, (found / differences)[0, 0], rtol=1e-4)

    np.save(data / "text.npy", np.ones_like(vectors))
    line = error_line(run_here(monkeypatch, capsys, "train.py", *TINY, *flags.split()))
    assert "--embed-norm center: all labels have the same embedding" in line
    flags = "--data colors --embed-type random --embed-norm center"
    line = error_line(run_here(monkeypatch, capsys, "train.py", *TINY, *flags.split()))
    assert "--embed-norm center: --embed-type random has no vectors to change" in line


def test_random_weights_are_not_frozen_unsaid(here, monkeypatch, capsys):
    flags = (*TINY, "--data", "colors", "--max-epochs", "1", "--limit", "4")
    said = run_here(monkeypatch, capsys, "train.py", *flags, "--freeze-backbone", "--tf32")
    assert said.code == 0 and "note: --freeze-backbone keeps random weights" in said.out
    assert torch.cuda.is_available() or "note: --tf32 changes nothing, it is for CUDA" in said.out


def test_an_ema_that_keeps_its_start_is_said(here, colors, monkeypatch, capsys):
    """24 images in batches of 8: 6 steps in 2 epochs, 0.5 ** 6 is 0.02."""
    flags = (*TINY, *"--data colors --batch-size 8 --max-epochs 2 --ema-decay".split())
    for decay, says in ((0.9, "after 6 steps, 53% of the EMA model"), (0.5, None)):
        said = run_here(monkeypatch, capsys, "train.py", *flags, decay)
        assert said.code == 0 and ("note: --ema-decay" in said.out) is (says is not None)
        assert says is None or (says in said.out and "such as 0.464" in said.out)
    dry = run_here(monkeypatch, capsys, "train.py", *flags, 0.9, "--limit", "8")
    assert dry.code == 0 and "note: --ema-decay" not in dry.out


def test_amp_on_a_cpu_without_bfloat16_is_said(here, monkeypatch, capsys):
    flags = (*TINY, *"--data colors --max-epochs 1 --limit 4 --device cpu --amp".split())
    for native in (False, True):
        monkeypatch.setattr(notes, "emulates_bfloat16", lambda device, native=native: not native)
        said = run_here(monkeypatch, capsys, "train.py", *flags)
        assert said.code == 0 and ("note: --amp: this CPU" in said.out) is not native, said.err


@pytest.mark.slow
@pytest.mark.parametrize("cache", [(), ("--cache-features", "features")])
def test_a_frozen_backbone_in_two_processes(here, colors, cache):
    folder = colors.parents[2]
    start = parts(state(1)["model"], backbone=True)
    results = run_together(2, "train.py", *FLAGS, "--freeze-backbone", *cache, cwd=folder)
    assert [result.code for result in results] == [0, 0], results[0].err
    assert same(parts(state(2, "last")["model"], backbone=True), start)
