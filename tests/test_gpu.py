"""What only a CUDA device can show; skipped, saying so, where there is none."""

import json
import math

import pytest
import torch

from benchmarks.architectures import SIX, measure
from lib.runtime.device import exact_float32
from models.backbones import build_backbone
from models.mlic import MLIC
from models.registry import find_arch
from tests.helpers import goldens
from tests.helpers.commands import run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


@pytest.mark.parametrize("amp", [False, True], ids=["fp32", "amp"])
@pytest.mark.parametrize("arch", SIX)
def test_forward_and_training_step_at_full_size(arch, amp):
    row = measure(arch, torch.device("cuda"), batch_size=16, amp=amp, repeats=3)
    print(row)
    assert math.isfinite(row.loss) and row.training_memory > row.forward_memory > 0


@pytest.mark.parametrize("arch", SIX)
def test_logits_of_cpu_and_gpu(arch):
    side = 384 if "swin" in arch else 448
    torch.manual_seed(0)
    backbone = build_backbone(arch, find_arch(arch), image_size=side, drop_class_token=True)
    model = MLIC(backbone, 20, torch.randn(20, 768), position=True).eval()
    images = goldens.image_batch(side, seed=0)
    with torch.no_grad(), exact_float32():
        expected = model(images).logits
        found = model.cuda()(images.cuda()).logits.cpu()
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_digits_on_the_gpu_reach_the_same_map(tmp_path):
    assert run("scripts/digits.py", cwd=tmp_path).code == 0
    flags = (
        "--data digits --arch resnet10t --weights none --embed-type random --img-size 80 "
        "--output-stride 16 --augment none --pos --lamda 0.4 --lr 4e-4 --batch-size 16 "
        "--max-epochs 4 --ema-decay 0.98"
    )
    scores = []
    for number, device in enumerate(("cpu", "cuda"), 1):
        assert run("train.py", *flags.split(), "--device", device, cwd=tmp_path).code == 0
        experiment = f"experiments/mlic_digits/exp{number}"
        command = ("evaluate.py", "--exp-dir", experiment, "--device", device)
        assert run(*command, cwd=tmp_path).code == 0
        scores.append(json.loads((tmp_path / experiment / "results.json").read_text())["mAP"])
    assert scores[1] == pytest.approx(scores[0], abs=0.01)
