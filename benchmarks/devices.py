"""What changes from GPU to GPU, on this one: a run that goes on between float16 and bfloat16, begun
by SGD with a scaled loss; a GPU by its number; attention where Triton has no compiler;
`torch.compile` while products are exact. Ends with exit code 1 where one of them fails.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.runs import TOY, experiment_of, history, in_float16, run, run_arguments
from lib.common.cli import run_main


def main() -> None:
    arguments = run_arguments(__doc__)

    import torch

    from benchmarks.measure import report
    from lib.runtime.device import exact_float32, select_device

    device, work = select_device(arguments.device), arguments.work
    on_gpu = device.type == "cuda"
    flags = (*TOY, *"--amp --optimizer SGD --lr-scheduler StepLR --device".split(), device)
    experiment = work / experiment_of(run(*in_float16(work, "train.py", *flags), cwd=work))
    resume = ("train.py", "--resume", experiment, "--max-epochs")
    run(*resume, "2", cwd=work)
    # as in an image without a C compiler, with nothing compiled before
    slim = {"CC": "/nonexistent", "TRITON_CACHE_DIR": str(work / "no_cache")}
    out = run(*in_float16(work, *resume, "3"), cwd=work, environment=slim)
    with exact_float32():
        square = torch.compile(lambda x: x @ x, backend="inductor" if on_gpu else "eager")
        ones = torch.ones(64, 64, device=device)
        torch.testing.assert_close(square(ones), ones @ ones)

    rows = [(one["epoch"], one["train_loss"], one["skipped_steps"]) for one in history(experiment)]
    report(
        "a run in float16, in bfloat16 and in float16 without Triton",
        ("epoch", "training loss", "steps skipped"),
        rows,
        {"steps_skipped": sum(row[2] for row in rows)},
        {"device": str(device)},
        arguments.json,
    )
    if on_gpu and [skipped > 0 for *_, skipped in rows] != [True, False, True]:
        sys.exit("float16 must skip its first steps, whose loss is scaled too much; bfloat16 none")
    if on_gpu and "without Triton" not in out:
        sys.exit("Triton was used without a C compiler, or its absence was not noted")


if __name__ == "__main__":
    run_main(main)
