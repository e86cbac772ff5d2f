"""Commands with `--device cuda` on a GPU that is not there, against `--device cpu`."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

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


def test_scores_and_tags_are_those_of_the_cpu(trained):
    flags = ("--exp-dir", EXPERIMENT, "--workers", "0", "--precision", "float32", "--device")
    tags = ("infer.py", *"--images data/colors/images --format json --threshold 0".split())
    scores, found = [], []
    for device, start in (("cpu", ()), ("cuda", (FAKE,))):
        ran(*start, "evaluate.py", *flags, device, cwd=trained)
        with np.load(trained / EXPERIMENT / "scores.npz") as stored:
            scores.append(stored["scores"])
        out = ran(*start, *tags, *flags, device, cwd=trained).out
        lines = [json.loads(line) for line in out.splitlines()]
        found.append([dict(zip(line["labels"], line["scores"], strict=True)) for line in lines])
    np.testing.assert_allclose(scores[1], scores[0], rtol=0, atol=1e-6)
    assert len(found[0]) == 48
    for on_cpu, on_gpu in zip(*found, strict=True):
        assert on_gpu == pytest.approx(on_cpu, abs=2e-6)


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
    code = f"import sys\nfrom tests.helpers import fake_gpu\n{MISTAKES[mistake]}"
    code += "fake_gpu.run_command(*sys.argv[1:])"
    result = run("-c", code, *TRAIN, "--max-epochs", "1", cwd=gpu)
    assert result.code == 1 and "to be on the same device" in result.err
