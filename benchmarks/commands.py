"""evaluate.py, infer.py, its page and export.py on a device, with the scores of the CPU beside
them. Ends with exit code 1 if scores differ.
"""

import json
import re
import signal
import sys
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.runs import TOY, experiment_of, finish, run, run_arguments, start
from lib.common.cli import run_main

TOLERANCE = 1e-3  # of a score
EXPORTS = ("torch_export", "published")


def main() -> None:
    arguments = run_arguments(__doc__)

    import numpy as np

    from benchmarks.measure import report
    from lib.runtime.device import select_device

    device, work = select_device(arguments.device).type, arguments.work
    rows = []

    def timed(name: str, *command: object) -> str:
        start_time = time.perf_counter()
        out = run(*command, cwd=work)
        rows.append((name, time.perf_counter() - start_time))
        return out

    out = timed("train.py, one epoch of a toy", "train.py", *TOY, "--device", device)
    experiment = work / experiment_of(out)
    given = ("--exp-dir", experiment, "--device")
    scores = []
    for place in ("cpu", device):
        timed(f"evaluate.py on {place}", "evaluate.py", *given, place)
        with np.load(experiment / "scores.npz", allow_pickle=False) as stored:
            scores.append(stored["scores"])
    difference = float(np.abs(scores[0] - scores[1]).max())
    timed("infer.py, 8 images", "infer.py", *given, device, "--limit", "8", "--overlays")
    for form in EXPORTS:
        timed(f"export.py, {form}", "scripts/export.py", *given[:2], "--format", form)

    start_time = time.perf_counter()
    page = start("infer.py", *given, device, "--serve", "--port", "0", cwd=work)
    address = re.search(r"http://\S+/", page.stdout.readline())[0]
    lines = (work / "data" / "digits" / "test.txt").read_text().splitlines()
    picture = (work / lines[0].split("\t")[0]).read_bytes()
    request = urllib.request.Request(f"{address}predict", picture, method="POST")
    tags = json.load(urllib.request.urlopen(request, timeout=60))["tags"]
    rows.append((f"page, {len(tags)} labels of a picture", time.perf_counter() - start_time))
    page.send_signal(signal.SIGINT)
    finish(page, codes=(130,))

    report(
        "commands",
        ("command", "seconds"),
        rows,
        {"scores_from_cpu": difference},
        {"device": device},
        arguments.json,
    )
    if not difference <= TOLERANCE:
        sys.exit(f"scores differ from the CPU's by {difference}, more than {TOLERANCE}")


if __name__ == "__main__":
    run_main(main)
