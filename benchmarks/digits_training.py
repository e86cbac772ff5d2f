"""The demo's training on a device: its mAP beside that of the CPU, after a kill and a resume too;
and on CUDA with float16 and a scaled loss, as on GPUs without bfloat16. The mAP of its validation
beside that of evaluate.py in exact float32. Ends with exit code 1 if mAPs differ by more than a
tolerance.
"""

import json
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.runs import (
    DIGITS,
    TOY,
    experiment_of,
    finish,
    history,
    in_float16,
    run,
    run_arguments,
    start,
)
from lib.common.cli import run_main

TOLERANCE = 0.01  # of an mAP


def main() -> None:
    arguments = run_arguments(__doc__)

    from benchmarks.measure import report
    from lib.runtime.device import select_device

    device, work = select_device(arguments.device).type, arguments.work
    flags = TOY if arguments.toy else DIGITS
    rows: list[tuple[str, float, float, float]] = []

    def add(name: str, experiment: Path) -> int:
        """Add a row; the number of skipped steps."""
        epochs = history(experiment)
        last = epochs[-1]
        rows.append((name, last["best_mAP_ema"], last["train_loss"], last["images_per_second"]))
        return sum(int(epoch["skipped_steps"]) for epoch in epochs)

    on_cpu_folder = work / "cpu"
    on_cpu_folder.mkdir()
    (on_cpu_folder / "data").symlink_to(work / "data")
    on_cpu = start("train.py", *flags, "--device", "cpu", cwd=on_cpu_folder)

    train = ("train.py", *flags, "--device", device)
    experiment = work / experiment_of(run(*train, cwd=work))
    add(device, experiment)
    run("evaluate.py", "--exp-dir", experiment, "--device", device, cwd=work)
    exact = json.loads((experiment / "results.json").read_text())["mAP"]
    from_exact = abs(exact - rows[0][1])
    add(f"{device}, killed and resumed", work / experiment_of(kill_and_resume(train, work)))
    add(f"{device}, --amp", work / experiment_of(run(*train, "--amp", cwd=work)))
    if device == "cuda":
        out = run(*in_float16(work, *train, "--amp"), cwd=work)
        if not add("cuda, --amp with float16", work / experiment_of(out)):
            sys.exit("float16: no step was skipped, so the loss was not scaled")
    add("cpu", on_cpu_folder / experiment_of(finish(on_cpu)))

    differences = {name: abs(score - rows[-1][1]) for name, score, *_ in rows}
    report(
        "digits",
        ("training", "EMA mAP", "last training loss", "images/s"),
        rows,
        {
            "digits_map_from_cpu": max(differences.values()),
            "validation_from_exact_map": from_exact,
        },
        {"device": device},
        arguments.json,
    )
    differences["evaluate.py"] = from_exact
    wrong = {name: found for name, found in differences.items() if not found <= TOLERANCE}
    if wrong and not arguments.toy:  # after one epoch of a toy an mAP says nothing
        sys.exit(
            f"mAP differs from the CPU's or the validation's by more than {TOLERANCE}: {wrong}"
        )


def kill_and_resume(train: tuple[str, ...], work: Path) -> str:
    """The output of a training that was killed as soon as it had saved, and resumed."""

    def saved() -> set[Path]:
        return set((work / "experiments").rglob("last.pth"))

    before = saved()
    process = start(*train, "--save-every", "1", cwd=work)
    while saved() == before and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    finish(process, codes=(-signal.SIGKILL,))
    (checkpoint,) = saved() - before
    out = run("train.py", "--resume", checkpoint.parent.parent, cwd=work)
    if "resumed from step" not in out:
        sys.exit(f"the killed run was not resumed: {out}")
    return out


if __name__ == "__main__":
    run_main(main)
