"""Inter-modal (bilinear) attention: attention of each label over the patches.

Shapes: B images, C labels, N patches, D features, T text size, A attention size.
"""

import contextlib
import functools
import importlib.util
import os

import torch
from torch import Tensor, nn

from models import ModelError

BLOCK_ELEMENTS = 2**18  # elements per block on the CPU, which fit its cache
GPU_BLOCK_ELEMENTS = 2**25  # elements per kernel launch, without Triton
SWITCH = "SGRE_TRITON"  # an environment variable: 0 computes without Triton


def bilinear_attention(patches: Tensor, labels: Tensor, weight: Tensor, tau: float = 1.0) -> Tensor:
    """alpha = softmax over n of `weight . tanh(patches_n * labels_c) / tau`.

    `patches` (B, N, A) and `labels` (C, A) are the projected inputs U x and V e, `weight` (A,) is
    W^T w. Returns alpha (B, C, N), each row summing to 1, in float32 (float64 for such inputs).

    The method scores with `w . (W t + b) + b0`. No non-linearity stands between W and w, and a
    softmax ignores a constant, so `(W^T w) . t` gives the same alpha and gradients without the
    product of a (B, C, N, A) tensor with W. That tensor is not stored either: its tanh is computed
    block by block, and again in the backward. Exports to other programs use the plain form.
    """
    if torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export():
        scores = folded_scores(patches.float(), labels.float(), weight.float())
        return torch.softmax(scores / tau, dim=-1)
    with _without_autocast(patches.device):
        return torch.softmax(bilinear_scores(patches, labels, weight) / tau, dim=-1)


def folded_scores(patches: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Scores (B, C, N) by way of the whole tensor (B, C, N, A): short, and for exports."""
    return torch.tanh(patches[:, None] * labels[None, :, None]) @ weight


def literal_attention(
    patches: Tensor,
    labels: Tensor,
    hidden: tuple[Tensor, Tensor],
    score: tuple[Tensor, Tensor],
    tau: float = 1.0,
) -> Tensor:
    """alpha (B, C, N) as the method writes it, `hidden` W and b, `score` w (A,) and b0.

    The reference implementation of `bilinear_attention`, for tests and benchmarks.
    """
    joint = torch.tanh(patches[:, None] * labels[None, :, None])
    (hidden_weight, hidden_bias), (score_weight, score_bias) = hidden, score
    scores = (joint @ hidden_weight.T + hidden_bias) @ score_weight + score_bias
    return torch.softmax(scores / tau, dim=2)


@torch.library.custom_op("sgre::bilinear_scores", mutates_args=())
def bilinear_scores(patches: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """scores_bcn = sum over a of `weight_a tanh(patches_bna labels_ca)`, in blocks.

    In float32, or float64 for such inputs. Computes `tanh(x)` as `2 sigmoid(2 x) - 1`, which takes
    PyTorch a ninth of the time on a CPU and differs by 2e-7 at most.
    """
    if _takes_triton(patches):
        from models.bilinear_triton import scores_forward

        return scores_forward(patches, labels, weight)
    patches, labels, weight = _promoted(patches, labels, weight)
    scores = patches.new_empty(len(patches), len(labels), patches.shape[1])
    doubled, weight = 2 * labels, 2 * weight
    for images, part in _blocks(patches):
        block = patches[images, part]
        joint = torch.empty_like(block)
        for column, label in enumerate(doubled):
            torch.mul(block, label, out=joint).sigmoid_()
            scores[images, column, part] = joint @ weight
    return scores.sub_(weight.sum() / 2)


@torch.library.custom_op("sgre::bilinear_scores_backward", mutates_args=())
def bilinear_scores_backward(
    patches: Tensor, labels: Tensor, weight: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of patches, labels and weight, contiguous, for that of `bilinear_scores`."""
    if _takes_triton(patches):
        from models.bilinear_triton import scores_backward

        return scores_backward(patches, labels, weight, gradient)
    dtypes = patches.dtype, labels.dtype, weight.dtype
    patches, labels, weight = _promoted(patches, labels, weight)
    d_patches, d_labels, d_weight = (
        torch.zeros_like(one, memory_format=torch.contiguous_format)
        for one in (patches, labels, weight)
    )
    doubled = 2 * labels
    ones = patches.new_ones(len(patches) * patches.shape[1])  # sums rows faster than sum() does
    for images, part in _blocks(patches):
        block = patches[images, part]
        joint, product = torch.empty_like(block), torch.empty_like(block)
        for column, label in enumerate(labels):
            d_scores = gradient[images, column, part]
            torch.mul(block, doubled[column], out=joint).sigmoid_()
            d_weight += d_scores.flatten() @ joint.flatten(0, 1)
            # `joint` s becomes d_scores s (s - 1): the derivative without its factor -4 weight
            joint.mul_(torch.sub(joint, 1, out=product)).mul_(d_scores[..., None])
            d_patches[images, part].addcmul_(joint, label * weight, value=-4)
            total = ones[: block[..., 0].numel()] @ torch.mul(joint, block, out=product).flatten(
                0, 1
            )
            d_labels[column].addcmul_(total, weight, value=-4)
    d_weight.mul_(2).sub_(gradient.sum())
    return d_patches.to(dtypes[0]), d_labels.to(dtypes[1]), d_weight.to(dtypes[2])


@bilinear_scores.register_fake
def _(patches: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    dtype = _precision(patches, labels, weight)
    return patches.new_empty(patches.shape[0], labels.shape[0], patches.shape[1], dtype=dtype)


@bilinear_scores_backward.register_fake
def _(patches: Tensor, labels: Tensor, weight: Tensor, gradient: Tensor):
    shape_of = functools.partial(torch.empty_like, memory_format=torch.contiguous_format)
    return shape_of(patches), shape_of(labels), shape_of(weight)


def _keep_inputs(ctx, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    with _without_autocast(gradient.device):
        return bilinear_scores_backward(*ctx.saved_tensors, gradient)


bilinear_scores.register_autograd(_backward, setup_context=_keep_inputs)


def _without_autocast(device: torch.device) -> contextlib.AbstractContextManager:
    """No mixed precision inside the block; an export has none, and no form for the block."""
    if torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export():
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)


def wants_triton() -> bool:
    """Whether the environment leaves Triton on. Raises `ModelError` for another value than 0, 1."""
    value = os.environ.get(SWITCH, "1")
    if value not in ("0", "1"):
        raise ModelError(f"{SWITCH}={value}: must be 0 or 1")
    return value == "1"


@functools.cache
def triton_problem(device: torch.device) -> str | None:
    """Why the Triton kernels cannot be used on a GPU, None if they can; tried once."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    from models.bilinear_triton import try_out

    try:
        try_out(device)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a compiler, driver or GPU can fail in any way
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return f"Triton's kernels do not run here ({reason[:200]})"
    return None


def _takes_triton(patches: Tensor) -> bool:
    gpu = patches.device.type == "cuda" and patches.dtype != torch.float64
    return gpu and wants_triton() and triton_problem(patches.device) is None


def _promoted(patches: Tensor, labels: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    dtype = _precision(patches, labels, weight)
    return patches.to(dtype), labels.to(dtype), weight.to(dtype)


def _precision(*tensors: Tensor) -> torch.dtype:
    """float32, or float64 where one of the inputs has it."""
    double = any(tensor.dtype == torch.float64 for tensor in tensors)
    return torch.float64 if double else torch.float32


def _blocks(patches: Tensor) -> list[tuple[slice, slice]]:
    """Slices of images and of patches, each with at most as many elements as a buffer is to have,
    or those of a single patch."""
    elements = BLOCK_ELEMENTS if patches.device.type == "cpu" else GPU_BLOCK_ELEMENTS
    images, num_patches, size = patches.shape
    rows = max(1, elements // max(1, size))
    image_step, patch_step = max(1, rows // max(1, num_patches)), max(1, min(rows, num_patches))
    return [
        (slice(image, image + image_step), slice(patch, patch + patch_step))
        for image in range(0, images, image_step)
        for patch in range(0, num_patches, patch_step)
    ]


class BilinearAttention(nn.Module):
    """Projects patches and label embeddings to one space and attends with `tanh(U x * V e)`."""

    def __init__(self, patch_size: int, text_size: int, attention_size: int, tau: float) -> None:
        super().__init__()
        self.tau = tau
        self.patch_projection = nn.Linear(patch_size, attention_size, bias=False)
        self.label_projection = nn.Linear(text_size, attention_size, bias=False)
        self.hidden = nn.Linear(attention_size, attention_size)
        self.score = nn.Linear(attention_size, 1)

    def forward(self, patches: Tensor, label_embeddings: Tensor) -> Tensor:
        """Patches (B, N, D), label embeddings (C, T) -> alpha (B, C, N)."""
        with _without_autocast(patches.device):  # mixed precision would round W^T w to bfloat16
            weight = self.score.weight[0] @ self.hidden.weight
        # b and b0 cancel in the softmax: the gradient is 0, not None, so weight decay still applies
        constant = self.score.weight[0] @ self.hidden.bias + self.score.bias
        return bilinear_attention(
            self.patch_projection(patches),
            self.label_projection(label_embeddings),
            weight + 0 * constant,
            self.tau,
        )
