"""Precision and memory of the device."""

import contextlib

import pytest
import torch

from lib.runtime.device import allow_tf32, exact_float32

CUDA, CUDNN, MKLDNN = torch.backends.cuda, torch.backends.cudnn, torch.backends.mkldnn
PRODUCTS = (CUDA.matmul, CUDNN.conv, CUDNN.rnn, MKLDNN.matmul, MKLDNN.conv)


@pytest.fixture(autouse=True)
def restored():
    """Whatever a test sets, with the switches at their values of before in the end."""
    owners = (torch.backends, *PRODUCTS)
    before = [owner.fp32_precision for owner in owners]
    yield
    for owner, precision in zip(owners, before, strict=True):
        owner.fp32_precision = precision


def set_everywhere() -> None:
    torch.backends.fp32_precision = "tf32"


def set_for_convolutions() -> None:
    CUDNN.conv.fp32_precision = "tf32"


def set_by_the_older_switches() -> None:
    CUDA.matmul.allow_tf32 = CUDNN.allow_tf32 = True


def set_for_products() -> None:
    torch.set_float32_matmul_precision("medium")


@pytest.mark.parametrize(
    "set_precision",
    [set_everywhere, set_for_convolutions, set_by_the_older_switches, set_for_products],
)
def test_float32_is_exact_inside_and_as_the_program_set_it_outside(set_precision):
    set_precision()
    before = [product.fp32_precision for product in PRODUCTS]
    assert "tf32" in before
    with contextlib.suppress(KeyError), exact_float32():
        assert [product.fp32_precision for product in PRODUCTS] == ["ieee"] * len(PRODUCTS)
        raise KeyError
    assert [product.fp32_precision for product in PRODUCTS] == before


def test_a_program_can_read_the_older_switches_that_it_has_set():
    set_by_the_older_switches()
    with exact_float32():
        pass
    assert CUDA.matmul.allow_tf32 and CUDNN.allow_tf32


def test_tf32_is_allowed_in_matrix_products():
    CUDA.matmul.fp32_precision = "ieee"
    allow_tf32()
    assert CUDA.matmul.fp32_precision == "tf32" and CUDA.matmul.allow_tf32
