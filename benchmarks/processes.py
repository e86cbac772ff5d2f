"""Two processes on one device, over gloo, against one process: the losses of all steps, with shards
of uneven size, gradient accumulation and gradient checkpointing, and of a run that was stopped and
resumed. On CUDA the batch norms are synchronised. Ends with exit code 1 if losses differ.
"""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.runs import finish, run, run_arguments, start
from lib.common.cli import run_main

SCRIPT = "benchmarks/comparable_training.py"
FLAGS = (
    "--data digits --weights none --embed-type random --augment none --pos --lr 1e-3 --workers 0 "
    "--limit 30 --max-epochs 2 --save-every 1"
).split()
CASES = {
    "uneven shards": "--batch-size 9",
    "accumulation and checkpointing": "--batch-size 8 --accum-steps 2 --grad-checkpointing",
}
TOY_CASES = {"all at once": "--batch-size 9 --accum-steps 2 --grad-checkpointing"}
STOP_AFTER = 3  # steps
TOLERANCE = 1e-3  # of a loss, relative


def main() -> None:
    arguments = run_arguments(__doc__)

    from benchmarks.measure import report

    arch = "test_resnet --img-size 64" if arguments.toy else "resnet18 --img-size 64"
    base = (SCRIPT, *FLAGS, "--arch", *arch.split(), "--device", arguments.device)
    rows = []

    def compare(name: str, found: str, expected: str) -> None:
        one, other = losses(found), losses(expected)
        if not one or len(one) != len(other):
            sys.exit(f"{name}: {len(one)} steps instead of {len(other)}")
        largest = max(abs(a - b) / abs(b) for a, b in zip(one, other, strict=True))
        rows.append((name, len(one), other[0], other[-1], largest))

    cases = TOY_CASES if arguments.toy else CASES
    outputs = {}
    for name, flags in cases.items():
        alone = run(*base, *flags.split(), cwd=arguments.work)
        outputs[name] = run(*base, *flags.split(), cwd=arguments.work, processes=2)
        compare(name, outputs[name], alone)
    first_case = next(iter(cases))
    command = (*base, *cases[first_case].split())
    stopped = start(
        *command,
        cwd=arguments.work,
        processes=2,
        environment={"STOP_AFTER_STEP": str(STOP_AFTER)},
    )
    first = finish(stopped, codes=(1,))  # torchrun's own exit code
    rest = run(*command, "--resume", "auto", cwd=arguments.work, processes=2)
    if f"resumed from step {STOP_AFTER}" not in rest:
        sys.exit(f"not resumed from step {STOP_AFTER}: {rest}")
    compare("stopped and resumed", first + rest, outputs[first_case])
    report(
        "two processes on one device against one: losses",
        ("case", "steps", "first loss", "last loss", "largest relative difference"),
        rows,
        {"loss_of_two_processes": max(row[-1] for row in rows)},
        {"arch": arch.split()[0]},
        arguments.json,
    )
    wrong = [row for row in rows if not row[-1] <= TOLERANCE]
    if wrong:
        sys.exit(f"losses differ by more than {TOLERANCE}: {wrong}")


def losses(out: str) -> list[float]:
    return [float(loss) for loss in re.findall(r"step \d+: ([\d.e+-]+|nan|inf)", out)]


if __name__ == "__main__":
    run_main(main)
