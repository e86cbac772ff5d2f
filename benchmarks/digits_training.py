"""The demo's training on a device: its mAP beside that of the CPU, after a kill and a resume too;
and on CUDA with float16 and a scaled loss, as on GPUs without bfloat16. Ends with exit code 1 if an
mAP is further from the CPU's than its tolerance.
"""

import json
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.cli import run_main

TOLERANCE = 0.01  # of an mAP
# bfloat16 hidden, so that float16 is taken, whose loss scale starts too high for the first steps
FLOAT16 = """
import runpy, sys, torch
torch.cuda.is_bf16_supported = lambda *arguments, **options: False
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def main() -> None:
    from benchmarks.measure import report
    from benchmarks.runs import (
        DIGITS,
        ROOT,
        TOY,
        finish,
        history,
        latest_experiment,
        run,
        run_arguments,
        start,
    )
    from lib.runtime.device import select_device

    arguments = run_arguments(__doc__)
    device = select_device(arguments.device).type
    flags = TOY if arguments.toy else DIGITS
    work = arguments.work
    rows = []

    def add(name: str, experiment: Path, device: str) -> float:
        run("evaluate.py", "--exp-dir", experiment, "--device", device, cwd=work)
        results = json.loads((work / experiment / "results.json").read_text())
        last = history(work / experiment)[-1]
        rows.append((name, results["mAP"], last["train_loss"], last["images_per_second"]))
        return results["mAP"]

    def train(name: str, *more: str) -> float:
        run("train.py", *flags, "--device", device, *more, cwd=work)
        return add(name, latest_experiment(work), device)

    maps = {"this device": train(device)}

    # killed at once after some step of the second half, or of the only epoch, then resumed
    process = start("train.py", *flags, "--device", device, "--save-every", "1", cwd=work)
    previous = latest_experiment(work)
    deadline = time.monotonic() + 120
    while (
        latest_experiment(work) == previous
        or not (latest_experiment(work) / "checkpoints" / "last.pth").exists()
    ):
        if process.poll() is not None or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    process.kill()
    finish(process, codes=(-signal.SIGKILL, 0))
    killed = latest_experiment(work)
    out = run("train.py", "--resume", killed, cwd=work)
    if "resumed from step" not in out:
        sys.exit(f"the killed run was not resumed: {out}")
    maps["killed and resumed"] = add(f"{device}, killed and resumed", killed, device)

    maps["mixed precision"] = train(f"{device}, --amp", "--amp")
    if device == "cuda":
        script = work / "float16.py"
        script.write_text(FLOAT16)
        run(script, ROOT / "train.py", *flags, "--device", device, "--amp", cwd=work)
        experiment = latest_experiment(work)
        skipped = sum(row["skipped_steps"] for row in history(experiment))
        maps["float16"] = add(f"cuda, float16, {skipped} steps skipped", experiment, device)
        if not skipped:
            sys.exit("float16: no step was skipped, so the loss was not scaled")

    run("train.py", *flags, "--device", "cpu", cwd=work)
    expected = add("cpu", latest_experiment(work), "cpu")
    differences = {name: abs(score - expected) for name, score in maps.items()}
    report(
        "digits",
        ("training", "mAP", "last training loss", "images/s"),
        rows,
        {"digits_map_from_cpu": max(differences.values())},
        {"device": device},
        arguments.json,
    )
    wrong = {name: found for name, found in differences.items() if not found <= TOLERANCE}
    if wrong and not arguments.toy:  # after one epoch of a toy an mAP says nothing
        sys.exit(f"mAP differs from the CPU's by more than {TOLERANCE}: {wrong}")


if __name__ == "__main__":
    run_main(main)
