"""Commands with `--device cuda` on a GPU that is not there, against `--device cpu`."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from lib.predictor import Predictor
from tests.helpers.commands import ROOT, TINY, make_data, run, run_together
from tests.helpers.fake_gpu import HOOKS, build_hooks

FLAGS = (
    *TINY,
    *"--data colors --img-size 64 --batch-size 8 --pos --augment none --ema-decay 0.5".split(),
)
TRAIN = ("train.py", *FLAGS, *"--amp --lr-scheduler StepLR --device cuda".split())
COMPARABLE = ("benchmarks/comparable_training.py", *FLAGS, *"--lr 1e-3 --max-epochs 1".split())
EXPERIMENT = "experiments/mlic_colors/exp1"
FAKE = "tests/helpers/fake_gpu.py"
INSTALL = """
import sys
from tests.helpers import fake_gpu
fake_gpu.install(gpu={gpu})
"""
PREDICT = """
import json, torch
from lib.predictor import Predictor
with fake_gpu.OnFakeGpu():
    predictor = Predictor(sys.argv[1], device="cuda:1", precision="float32")
    scores, heatmaps = predictor(sys.argv[2:])
assert torch.cuda.current_device() == 0
print(json.dumps(scores.tolist()))
"""
MISTAKES = {
    "the normaliser on the CPU": """
from lib.training import prepare as module
build = module.build_normalizer
module.build_normalizer = lambda config, device: build(config, "cpu")
""",
    "targets on the CPU": """
from lib.training import step as module
objective = module.objective
module.objective = lambda loss, output, targets, *others: objective(
    loss, output, targets.cpu(), *others)
""",
}


@pytest.fixture(scope="module")
def gpu(tmp_path_factory):
    """A folder with data/colors, in which `FAKE` can run commands."""
    if sys.platform != "linux":
        pytest.skip("made for Linux")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU: bash scripts/gpu_check.sh checks it")
    folder = tmp_path_factory.mktemp("gpu")
    try:
        library = build_hooks(folder)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"PyTorch's hooks for CUDA could not be replaced: {error}")
    make_data(folder, images=16)
    with pytest.MonkeyPatch.context() as patch:
        settings = {HOOKS: str(library), "PYTHONPATH": str(ROOT)}
        settings |= {"SGRE_SHARE_GPUS": "1", "BATCH_STATISTICS": "1"}
        for name, value in settings.items():
            patch.setenv(name, value)
        yield folder


def ran(*command, cwd):
    result = run(*command, cwd=cwd)
    assert result.code == 0, result.err
    return result


@pytest.fixture(scope="module")
def trained(gpu):
    """`gpu` with a run that was resumed where bfloat16 is used, and again where it is not."""
    memory = ("--grad-checkpointing", "--accum-steps", "2", "--clip-grad", "1")
    ran(FAKE, "--float16", *TRAIN, *memory, "--max-epochs", "1", cwd=gpu)
    for number, flag in ((2, ()), (3, ("--float16",))):
        resumed = ("train.py", "--resume", EXPERIMENT, "--max-epochs", str(number))
        assert "resumed from step" in ran(FAKE, *flag, *resumed, cwd=gpu).out
    return gpu


def test_a_run_goes_on_between_float16_and_bfloat16(trained):
    rows = [json.loads(line) for line in open(trained / EXPERIMENT / "history.jsonl")]
    # float16 scales the loss, at first too much
    assert [row["skipped_steps"] > 0 for row in rows] == [True, False, True]
    assert all(np.isfinite(row["train_loss"]) for row in rows)


def scores_of(folder) -> np.ndarray:
    with np.load(folder / EXPERIMENT / "scores.npz") as stored:
        return stored["scores"]


def test_scores_are_those_of_the_cpu_on_any_gpu(trained):
    evaluate = ("evaluate.py", "--exp-dir", EXPERIMENT, "--workers", "0", "--precision", "float32")
    ran(*evaluate, "--device", "cpu", cwd=trained)
    expected = scores_of(trained)
    ran(FAKE, "--gpu", "1", *evaluate, "--device", "cuda:1", cwd=trained)
    np.testing.assert_allclose(scores_of(trained), expected, rtol=0, atol=1e-6)


def test_tags_are_those_of_the_cpu(trained, monkeypatch):
    monkeypatch.setenv("SGRE_TRITON", "0")
    tags = ("infer.py", "--exp-dir", EXPERIMENT, *"--precision float32 --workers 0".split())
    tags += (*"--images data/colors/images --format json --threshold 0 --device".split(),)
    results = [ran(*tags, "cpu", cwd=trained), ran(FAKE, *tags, "cuda", cwd=trained)]
    found = [[json.loads(line) for line in result.out.splitlines()] for result in results]
    assert len(found[0]) == 48
    for lines in zip(*found, strict=True):
        on_cpu, on_gpu = (dict(zip(one["labels"], one["scores"], strict=True)) for one in lines)
        assert on_gpu == pytest.approx(on_cpu, abs=2e-6)
    assert "Triton" not in results[1].err  # and is not missed


def test_a_predictor_leaves_the_present_gpu(trained):
    pictures = [f"data/colors/images/test{number}.png" for number in range(3)]
    out = ran("-c", INSTALL.format(gpu=1) + PREDICT, EXPERIMENT, *pictures, cwd=trained).out
    expected = Predictor(trained / EXPERIMENT, device="cpu", precision="float32")
    scores, _ = expected([trained / picture for picture in pictures])
    np.testing.assert_allclose(json.loads(out), scores, rtol=0, atol=1e-6)


def losses(out: str) -> list[float]:
    return [float(loss) for loss in re.findall(r"step \d+: ([\d.e+-]+)", out)]


def test_steps_are_those_of_the_cpu_with_four_ranks_too(gpu):
    """Whose batch norms are synchronised."""
    expected = losses(ran(*COMPARABLE, "--device", "cpu", cwd=gpu).out)
    assert len(expected) == 2 and expected[0] != expected[1]
    alone = ran(FAKE, *COMPARABLE, "--device", "cuda", cwd=gpu)
    np.testing.assert_allclose(losses(alone.out), expected, rtol=1e-5)
    ranks = run_together(4, FAKE, *COMPARABLE, "--device", "cuda", cwd=gpu)
    assert [result.code for result in ranks] == [0] * 4, ranks[0].err
    np.testing.assert_allclose(losses(ranks[0].out), expected, rtol=1e-5)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_tensor_on_the_wrong_device_is_found(gpu, mistake):
    code = f"{INSTALL.format(gpu=0)}{MISTAKES[mistake]}\nfake_gpu.run_command(*sys.argv[1:])"
    result = run("-c", code, *TRAIN, "--max-epochs", "1", cwd=gpu)
    assert result.code == 1 and "to be on the same device" in result.err
