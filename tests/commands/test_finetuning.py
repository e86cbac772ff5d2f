"""Training on from another experiment, on other labels, with a backbone that learns less or not."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.training import fit, notes
from tests.helpers.commands import RUN, TRAIN, run_together

FLAGS = f"{TRAIN} --img-size 64 --pos --batch-size 8 --max-epochs 2 --lr 1e-2 --ema-decay 0.5"
FLAGS += f" --pretrained-model {RUN}"


@pytest.fixture
def train(colors, commands, no_curves):
    """The folder of `colors`, whose data have other labels now; calls run train.py there."""
    folder = Path("data/colors")
    for file in folder.glob("*.txt"):
        file.write_text(file.read_text().replace("red", "crimson").replace("blue", "azure"))
    labels = folder / "label.txt"
    labels.write_text(labels.read_text() + "black\n")
    return lambda flags="": commands(f"{FLAGS} {flags}")


def state(number, name="best_ema_model"):
    return torch.load(f"experiments/mlic_colors/exp{number}/checkpoints/{name}.pth")


def parts(state, backbone):
    return {name: state[name] for name in state if name.startswith("backbone.") == backbone}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_a_frozen_backbone_stays_to_the_bit(train):
    """Weights and statistics, of the model and of its average; the head learns."""
    start = parts(state(1)["model"], backbone=True)
    assert "note: --freeze-backbone" not in train("--freeze-backbone").out
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
def test_it_resumes_where_it_was_ended(train, monkeypatch, flags):
    class Ended(BaseException):
        pass

    leave_if_asked = fit.leave_if_asked

    def ending(run, *others):
        leave_if_asked(run, *others)
        if run.state.step == 4:
            raise Ended

    train(flags)
    with monkeypatch.context() as patched, pytest.raises(Ended):
        patched.setattr(fit, "leave_if_asked", ending)
        train(f"{flags} --save-every 1")
    assert "from step 4" in train(f"{flags} --resume experiments/mlic_colors/exp3").out
    whole, resumed = state(2, "last"), state(3, "last")
    assert same(whole["model"], resumed["model"]) and same(whole["ema"], resumed["ema"])
    assert whole["schedule"] == resumed["schedule"]
    assert same(state(2)["model"], state(3)["model"])


def test_a_slower_backbone_moves_less(train):
    start = parts(state(1)["model"], backbone=True)
    for flags in ("", "--backbone-lr-scale 0.01"):
        train(f"--limit 8 --max-epochs 1 --lr-scheduler StepLR {flags}")
    moved = []
    for number in (2, 3):
        found = state(number, "last")["model"]
        weights = (name for name in start if name.endswith("weight"))
        moved.append(max((found[name] - start[name]).abs().max().item() for name in weights))
    assert moved[1] == pytest.approx(0.01 * moved[0], rel=0.05)


def test_classifiers_are_kept_for_the_same_labels_alone(train, commands):
    """A first epoch at a rate of nothing scores as the run that it starts from."""
    commands.refused("--keep-classifiers", f"{FLAGS} --keep-classifiers")
    train("--max-epochs 1")
    start = "--pretrained-model experiments/mlic_colors/exp2 --lr 1e-30 --max-epochs 1"
    for flags in ("--keep-classifiers", ""):
        train(f"{start} --ema-epoch 9 {flags}")
    before, kept, dropped = (state(number)["model"] for number in (2, 3, 4))
    for name in before:
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            torch.testing.assert_close(kept[name], before[name])
    for name in ("head.object_classifier.weight", "head.patch_classifier.3.weight"):
        assert not torch.allclose(dropped[name], before[name])


def test_centered_label_embeddings(here):
    """The network has them without their common part."""
    vectors = np.random.default_rng(0).normal(5, 0.1, (3, 8)).astype(np.float32)
    np.save("data/colors/text.npy", vectors)
    here(f"{TRAIN} --max-epochs 1 --limit 8 --embed-type text --embed-norm center")
    found = state(1)["model"]["head.label_embeddings"].numpy()
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-6)
    assert found.std() == pytest.approx(1) and found.dtype == np.float32
    differences = vectors - vectors.mean(axis=0)
    np.testing.assert_allclose(found / differences, (found / differences)[0, 0], rtol=1e-4)


def noted(here, flags):
    """The flags that a run's notes begin with, how much is left of the start, what is enough."""
    out = here(f"{TRAIN} --batch-size 8 --max-epochs 1 {flags}").out
    return re.findall(r"(?<=note: )--[a-z0-9-]+|\d+(?=% of)|(?<=such as ).+", out)


def test_what_has_no_effect_or_too_much_is_noted(here, monkeypatch):
    """6 images: one step an epoch; 0.95 ** 2 is 0.9, 0.5 ** 9 is next to nothing."""
    tf32 = [] if torch.cuda.is_available() else ["--tf32"]
    assert sorted(noted(here, "--limit 4 --freeze-backbone --tf32")) == ["--freeze-backbone", *tf32]
    assert noted(here, "--max-epochs 2 --ema-decay 0.95") == ["--ema-decay", "90", "0.1"]
    assert noted(here, "--max-epochs 9 --ema-decay 0.5") == []
    assert noted(here, "--limit 4 --ema-decay 0.95") == []
    for native in (False, True):
        monkeypatch.setattr(notes, "emulates_bfloat16", lambda device, native=native: not native)
        assert noted(here, "--limit 4 --device cpu --amp") == ([] if native else ["--amp"])


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["", "--cache-features features"])
def test_a_frozen_backbone_in_two_processes(train, flags):
    start = parts(state(1)["model"], backbone=True)
    command = f"{FLAGS} --freeze-backbone {flags}".split()
    results = run_together(2, *command, cwd=Path.cwd())
    assert [result.code for result in results] == [0, 0], results[0].err
    assert same(parts(state(2, "last")["model"], backbone=True), start)
