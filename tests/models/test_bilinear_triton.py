"""The Triton kernels of bilinear attention against the literal formula, by Triton's interpreter."""

import json
import os
import subprocess
import sys

import pytest

from tests.helpers.commands import ROOT

pytest.importorskip("triton", reason="Triton is not installed, as outside Linux")

# the interpreter is chosen when Triton is imported, hence a process of its own
COMPARE = """
import json, sys, torch
from models.bilinear_triton import scores_backward, scores_forward

found = {}
for name, (images, patches, labels, size, dtype, scale) in json.loads(sys.argv[1]).items():
    torch.manual_seed(0)
    dtype = getattr(torch, dtype)
    x = (scale * torch.randn(images, patches, size)).to(dtype)
    e, w = torch.randn(labels, size).to(dtype), torch.randn(size).to(dtype)
    mix = torch.randn(images, labels, patches)
    exact = [one.double().requires_grad_() for one in (x, e, w)]
    scores = (torch.tanh(exact[0][:, None] * exact[1][None, :, None]) * exact[2]).sum(-1)
    expected = torch.autograd.grad((scores * mix).sum(), exact)
    gradients = scores_backward(x, e, w, mix)
    assert all(one.dtype == dtype for one in gradients)
    ours = [scores_forward(x, e, w), *gradients]
    found[name] = [
        ((one.double() - other).abs().max() / other.abs().max().clamp(min=1e-9)).item()
        for one, other in zip(ours, [scores, *expected], strict=True)
    ]
print(json.dumps(found))
"""
CASES = {
    "one of each": (1, 1, 1, 1, "float32", 1),
    "nothing fits a tile": (2, 13, 17, 37, "float32", 1),
    "more chunks than rows": (1, 3, 5, 20, "float32", 1),
    "several tiles and chunks": (3, 29, 33, 40, "float32", 1),
    "tiny inputs": (1, 9, 6, 20, "float32", 1e-4),
    "huge inputs": (1, 9, 6, 20, "float32", 1e8),
    "bfloat16": (2, 9, 6, 20, "bfloat16", 1),
    "float16": (2, 9, 6, 20, "float16", 1),
}
ROUNDING = {"float32": 1e-5, "bfloat16": 2**-8, "float16": 2**-11}  # of the result


@pytest.fixture(scope="module")
def errors():
    done = subprocess.run(
        [sys.executable, "-c", COMPARE, json.dumps(CASES)],
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("case", CASES)
def test_scores_and_gradients_match_the_formula(errors, case):
    scores, *gradients = errors[case]
    assert scores < 1e-5  # always accumulated in float32
    assert max(gradients) < ROUNDING[CASES[case][4]]
