"""Bilinear attention against its literal twin."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.measure import peak_bytes
from lib.experiment.network import kernel_note
from models import bilinear
from models.bilinear import BilinearAttention, bilinear_attention, literal_attention


def module(seed=0, sizes=(7, 5, 11), tau=0.7):
    torch.manual_seed(seed)
    return BilinearAttention(*sizes, tau).double()


def twin(attention, patches, labels):
    return literal_attention(
        attention.patch_projection(patches),
        attention.label_projection(labels),
        (attention.hidden.weight, attention.hidden.bias),
        (attention.score.weight[0], attention.score.bias),
        attention.tau,
    )


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 9, 6), (3, 13, 5)])
def test_values_and_gradients_match_the_twin(shape):
    images, num_patches, num_labels = shape
    attention = module()
    patches = torch.randn(images, num_patches, 7, dtype=torch.float64, requires_grad=True)
    labels = torch.randn(num_labels, 5, dtype=torch.float64, requires_grad=True)
    sources = [patches, labels, *attention.parameters()]
    mix = torch.randn(images, num_labels, num_patches, dtype=torch.float64)
    alpha, expected = attention(patches, labels), twin(attention, patches, labels)
    torch.testing.assert_close(alpha, expected)
    found = torch.autograd.grad((alpha * mix).sum(), sources)
    wanted = torch.autograd.grad((expected * mix).sum(), sources)
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-8)


@pytest.mark.parametrize("elements", [40, 15, 3])
def test_gradcheck_over_several_blocks(monkeypatch, elements):
    """Of two images of 3 patches of 7; of two patches; of one, which is the least."""
    monkeypatch.setattr(bilinear, "BLOCK_ELEMENTS", elements)
    inputs = [
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((5, 3, 7), (4, 7), (7,))
    ]
    assert torch.autograd.gradcheck(lambda *args: bilinear_attention(*args, 0.5), inputs)


def test_biases_have_a_gradient_of_exactly_zero():
    attention = module()
    attention(torch.randn(2, 4, 7).double(), torch.randn(3, 5).double())[..., 0].sum().backward()
    assert attention.hidden.bias.grad is not None
    assert not attention.hidden.bias.grad.any() and not attention.score.bias.grad.any()


def test_extreme_inputs_stay_finite():
    patches = torch.tensor([[[1e30, -1e30], [0.0, 1e-30]]], requires_grad=True)
    alpha = bilinear_attention(patches, torch.tensor([[1e4, 1.0]]), torch.tensor([50.0, -50.0]))
    alpha[0, 0, 0].backward()
    assert alpha.isfinite().all() and patches.grad.isfinite().all()


def test_half_precision_inputs_give_float32():
    patches, labels, weight = torch.randn(2, 5, 8), torch.randn(3, 8), torch.randn(8)
    exact = bilinear_attention(patches, labels, weight)
    rough = bilinear_attention(patches.bfloat16(), labels.bfloat16(), weight.bfloat16())
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, atol=0.05, rtol=0.1)


def test_mixed_precision_keeps_the_product_of_the_two_layers_in_float32(monkeypatch):
    torch.manual_seed(0)
    layer = BilinearAttention(16, 8, 32, tau=1.0)
    expected, seen = layer.score.weight[0] @ layer.hidden.weight, []

    def attend(patches, labels, weight, tau):
        seen.append(weight)

    monkeypatch.setattr(bilinear, "bilinear_attention", attend)
    with torch.autocast("cpu", torch.bfloat16):
        layer(torch.randn(2, 5, 16), torch.randn(3, 8))
    assert seen[0].dtype == torch.float32 and torch.equal(seen[0], expected)


def inputs(images=2, num_patches=9, num_labels=6, size=7):
    torch.manual_seed(1)
    shapes = (images, num_patches, size), (num_labels, size), (size,)
    return [torch.randn(shape, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("contiguous", [True, False])
def test_the_operators_are_what_pytorch_expects_of_one(contiguous):
    """Shapes and strides without data, no hidden change of inputs, and a backward that can be
    traced."""
    patches, labels, weight = inputs()
    mix = torch.randn(2, 6, 9)
    if not contiguous:
        patches, labels, mix = (one.mT.contiguous().mT for one in (patches, labels, mix))
        weight = torch.stack([weight, weight], dim=1)[:, 0]
    given = [one.detach().requires_grad_() for one in (patches, labels, weight)]
    assert all(one.is_contiguous() is contiguous for one in given)
    torch.library.opcheck(bilinear.bilinear_scores, given)
    given = [one.detach() for one in (*given, mix)]
    torch.library.opcheck(bilinear.bilinear_scores_backward, given)


@pytest.fixture
def gpu_patches():
    """Patches on a GPU that is not there."""
    tried = bilinear.triton_problem
    tried.cache_clear()
    with FakeTensorMode():
        patches = torch.ones(2, 9, 7, device="cuda:1")
    yield patches
    tried.cache_clear()


def test_triton_is_tried_once_and_left_where_it_fails(monkeypatch, gpu_patches):
    kernels = pytest.importorskip("models.bilinear_triton", reason="Triton is not installed")
    tried = []

    def try_out(device):
        tried.append(device)
        raise RuntimeError("Failed to find C compiler.\nSpecify one by CC.")

    monkeypatch.setattr(kernels, "try_out", try_out)
    assert not any(bilinear._takes_triton(gpu_patches) for _ in range(3))
    assert tried == [torch.device("cuda:1")]
    assert "Failed to find C compiler." in bilinear.triton_problem(gpu_patches.device)
    note = kernel_note(module(), gpu_patches.device)
    assert "Failed to find C compiler." in note and "\n" not in note
    assert kernel_note(module(), torch.device("cpu")) is None
    assert kernel_note(torch.nn.Linear(1, 1), gpu_patches.device) is None


def test_the_environment_chooses_the_blocked_form(monkeypatch, gpu_patches):
    monkeypatch.setattr(bilinear, "triton_problem", lambda device: None)
    assert bilinear._takes_triton(gpu_patches) and not bilinear._takes_triton(torch.ones(1, 2, 3))
    assert not bilinear._takes_triton(gpu_patches.double())
    monkeypatch.setenv("SGRE_TRITON", "0")
    assert not bilinear._takes_triton(gpu_patches)
    assert kernel_note(module(), gpu_patches.device) is None


def test_a_compiled_network_keeps_it_whole():
    arguments = inputs()
    compiled = torch.compile(bilinear_attention, backend="aot_eager", fullgraph=True)
    results = [attend(*arguments) for attend in (bilinear_attention, compiled)]
    torch.testing.assert_close(*results)
    found = [torch.autograd.grad(alpha[..., 0].sum(), arguments) for alpha in results]
    torch.testing.assert_close(*found)


def test_exports_take_the_plain_form():
    """A program elsewhere knows tanh and products, and not this project's operator."""

    class Attention(torch.nn.Module):
        def forward(self, *arguments):
            return bilinear_attention(*arguments, 0.5)

    arguments = tuple(one.detach() for one in inputs())
    exported = torch.export.export(Attention(), arguments)
    names = str(exported.graph)
    assert "sgre" not in names and "aten.tanh" in names
    found = exported.module()(*arguments)
    torch.testing.assert_close(found, bilinear_attention(*arguments, 0.5))


def test_memory_is_that_of_a_block(monkeypatch):
    """Beyond inputs, outputs and gradients; the whole (B, C, N, A) tensor would take 4.8 MB."""
    monkeypatch.setattr(bilinear, "BLOCK_ELEMENTS", 1000)
    arguments = inputs(images=4, num_patches=25, num_labels=80, size=150)

    def step():
        torch.autograd.grad(bilinear_attention(*arguments)[..., 0].sum(), arguments)

    results = sum(one.numel() for one in arguments) + 4 * 4 * 25 * 80
    assert peak_bytes(step, torch.device("cpu")) < 4 * (results + 4 * 25 * 150)


def test_no_images_and_mixed_precision():
    arguments = inputs()
    patches, *others = arguments
    assert bilinear_attention(patches[:0], *others).shape == (0, 6, 9)
    exact = bilinear_attention(patches.double(), *(one.double() for one in others))
    mixed = bilinear_attention(patches, *(one.double() for one in others))
    assert mixed.dtype == torch.float64
    torch.testing.assert_close(mixed, exact, atol=1e-12, rtol=0)
    expected = torch.autograd.grad(bilinear_attention(*arguments)[..., 0].sum(), arguments)
    with torch.autocast("cpu", torch.bfloat16):  # the backward inside, too
        found = torch.autograd.grad(bilinear_attention(*arguments)[..., 0].sum(), arguments)
    torch.testing.assert_close(found, expected)
