"""Bilinear attention, forward and backward: as the method writes it, folded, in blocks, and (on
CUDA) by the Triton kernel; time, and peak memory beyond inputs and outputs.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.cli import Parser, device_name, positive_int, run_main


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--device", type=device_name, default="auto")
    parser.add_argument("--batch-size", type=positive_int, default=2)
    parser.add_argument("--num-labels", type=positive_int, default=80)
    parser.add_argument("--num-patches", type=positive_int, default=196)
    parser.add_argument("--size", type=positive_int, default=1024, help="attention size")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--compile", action="store_true", help="also PyTorch's compiled form")
    parser.add_argument("--repeats", type=positive_int, default=5)
    parser.add_argument("--json", type=Path, help="write the results here too")
    arguments = parser.parse_args()

    import torch

    from benchmarks.measure import peak_bytes, report
    from lib.runtime.device import keep_freed_memory, select_device
    from lib.runtime.timing import median_seconds
    from models import bilinear

    device = select_device(arguments.device)
    keep_freed_memory(device)
    torch.manual_seed(0)
    images, labels, patches = arguments.batch_size, arguments.num_labels, arguments.num_patches
    size = arguments.size
    options = {"device": device, "dtype": getattr(torch, arguments.dtype)}
    x = torch.randn(images, patches, size, **options, requires_grad=True)
    e = torch.randn(labels, size, **options, requires_grad=True)
    hidden = torch.nn.Linear(size, size, **options)
    score = torch.nn.Linear(size, 1, **options)
    mix = torch.randn(images, labels, patches, device=device)

    def literal(weight):
        return bilinear.literal_attention(
            x, e, (hidden.weight, hidden.bias), (score.weight[0], score.bias)
        )

    def folded(weight):
        return torch.softmax(bilinear.folded_scores(x, e, weight()), dim=-1)

    def unstored(weight):
        return bilinear.bilinear_attention(x, e, weight())

    forms = {"literal": literal, "folded": folded, "blocked": unstored}
    if arguments.compile:
        scores = torch.compile(bilinear.folded_scores)
        forms["compiled"] = lambda weight: torch.softmax(scores(x, e, weight()), dim=-1)
    if device.type == "cuda":
        forms["triton"] = unstored

    def mixed():
        return score.weight[0] @ hidden.weight

    def step(name, weight, sources):
        def run() -> None:
            os.environ[bilinear.SWITCH] = str(int(name == "triton"))
            alpha = forms[name](weight)
            torch.autograd.grad(alpha, sources, mix.to(alpha.dtype))

        return run

    parameters = [x, e, hidden.weight, score.weight]
    steps = {name: step(name, mixed, parameters) for name in forms}
    seconds = median_seconds(steps, arguments.repeats, device)

    # of the function alone: with W^T w as an input, every output is there when most is held
    known = mixed().detach().requires_grad_()
    memory = {}
    for name in forms:
        sources = parameters if name == "literal" else [x, e, known]
        outputs = 4 * mix.numel() + sum(source.numel() * source.itemsize for source in sources)
        memory[name] = peak_bytes(step(name, lambda: known, sources), device) - outputs
    fastest = "triton" if "triton" in steps else "blocked"
    report(
        "bilinear attention, forward and backward",
        ("version", "seconds", "images/s", "peak MiB beyond inputs and outputs"),
        [(name, seconds[name], images / seconds[name], memory[name] / 2**20) for name in forms],
        {
            "attention_vs_literal": seconds["literal"] / seconds[fastest],
            "attention_memory_vs_literal": memory[fastest] / memory["literal"],
        },
        {
            "dtype": arguments.dtype,
            "shape": f"B {images}, C {labels}, N {patches}, A {size}",
        },
        arguments.json,
    )


if __name__ == "__main__":
    run_main(main)
