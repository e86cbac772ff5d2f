"""Bilinear attention and its gradients as they are here (on CUDA by the Triton kernel) against the
method as it is written, in float64. Ends with exit code 1 if an error is beyond its tolerance.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.cli import Parser, device_name, run_main

# images, labels, patches, attention size: the usual ones, and odd ones
SIZES = ((16, 80, 196, 1024), (3, 7, 49, 100), (2, 81, 197, 1000), (1, 1, 1, 1), (5, 500, 17, 33))
TOY_SIZES = SIZES[1:2] + SIZES[3:]
# of the difference's norm over that of the result; gradients are returned in the inputs' precision
TOLERANCES = {"float32": (1e-5, 1e-4), "bfloat16": (1e-5, 4e-3)}


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--device", type=device_name, default="auto")
    parser.add_argument("--toy", action="store_true", help="small sizes alone")
    parser.add_argument("--json", type=Path, help="write the results here too")
    arguments = parser.parse_args()

    import torch

    from benchmarks.measure import report
    from lib.runtime.device import exact_float32, select_device
    from models.bilinear import triton_problem

    device = select_device(arguments.device)
    on_gpu = device.type == "cuda"
    problem = triton_problem(device) if on_gpu else None
    rows, wrong = [], [problem] if problem else []
    for sizes in TOY_SIZES if arguments.toy else SIZES:
        for name, tolerances in TOLERANCES.items():
            with exact_float32():
                found = errors(sizes, getattr(torch, name), device)
            rows.append((" x ".join(map(str, sizes)), name, *found))
            if not (found[0] <= tolerances[0] and max(found[1:]) <= tolerances[1]):
                wrong.append(f"{sizes} in {name}: {found}")
    report(
        "bilinear attention against the literal form in float64: relative errors",
        ("B x C x N x A", "inputs", "attention", "of patches", "of labels", "of weight"),
        rows,
        {"attention_error": max(row[2] for row in rows)},
        {"form": "triton" if on_gpu and not problem else "blocked"},
        arguments.json,
    )
    if wrong:
        sys.exit("beyond tolerance: " + "; ".join(wrong))


def errors(sizes: tuple[int, int, int, int], dtype, device) -> list[float]:
    """Relative errors of alpha and of the gradients of patches, labels and weight."""
    import torch

    from models.bilinear import bilinear_attention, literal_attention

    images, labels, patches, size = sizes
    torch.manual_seed(0)
    given = [
        torch.randn(shape, device=device).to(dtype).requires_grad_()
        for shape in ((images, patches, size), (labels, size), (size,))
    ]
    exact = [tensor.detach().double().requires_grad_() for tensor in given]
    identity = torch.eye(size, device=device, dtype=torch.float64)
    zeros = torch.zeros(size, device=device, dtype=torch.float64)
    expected = literal_attention(exact[0], exact[1], (identity, zeros), (exact[2], zeros[:1]))
    found = bilinear_attention(*given)
    mix = torch.randn(images, labels, patches, device=device, dtype=torch.float64)
    expected_all = [expected.detach(), *torch.autograd.grad(expected, exact, mix)]
    found_all = [found.detach(), *torch.autograd.grad(found, given, mix.float())]
    return [
        float((one.double() - other).norm() / other.norm().clamp(min=1e-30))
        if one.isfinite().all()
        else float("inf")
        for one, other in zip(found_all, expected_all, strict=True)
    ]


if __name__ == "__main__":
    run_main(main)
