"""How waiting OpenMP threads are set, on a CPU that does other work: images/s of training and of
tagging, alone and beside processes that do nothing but compute.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.cli import Parser, non_negative_int, positive_int, run_main

# of libgomp: its default, sleep at once, spin as many rounds as the number says
SETTINGS = {
    "default": {"GOMP_SPINCOUNT": "300000"},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "1,000": {"GOMP_SPINCOUNT": "1000"},
    "3,000": {"GOMP_SPINCOUNT": "3000"},
    "10,000": {"GOMP_SPINCOUNT": "10000"},
    "30,000": {"GOMP_SPINCOUNT": "30000"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
# arch, image side, batch size, labels, whether it trains
WORK = {
    "train, the demo's network": ("resnet10t", 80, 16, 10, True),
    "train, ResNet-101 at 448 px": ("resnet101", 448, 2, 80, True),
    "tag, the demo's network": ("resnet10t", 80, 64, 10, False),
    "tag, ResNet-101 at 448 px": ("resnet101", 448, 4, 80, False),
}
BUSY = "x = 1\nwhile True: x = x * 3 % 1000003"
SPINS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--work", nargs="+", default=list(WORK), choices=list(WORK))
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--beside", type=non_negative_int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seconds", type=positive_int, default=8, help="of each measurement")
    parser.add_argument("--repeats", type=positive_int, default=3)
    parser.add_argument("--json", type=Path, help="write the results here too")
    parser.add_argument("--measure", choices=list(WORK), help="measure here and print images/s")
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(images_per_second(*WORK[arguments.measure], arguments.seconds)))
        return

    from benchmarks.measure import report

    rows = []
    for work in arguments.work:
        for beside in arguments.beside:
            found: dict[str, list[float]] = {name: [] for name in arguments.settings}
            for _ in range(arguments.repeats):
                for name in arguments.settings:
                    found[name].append(measure(work, SETTINGS[name], beside, arguments.seconds))
            rows.append((work, beside, *map(statistics.median, found.values())))
            print(rows[-1], found, file=sys.stderr)
    report(
        "images/s",
        ("work", "busy processes", *arguments.settings),
        rows,
        {},
        {"seconds": arguments.seconds, "repeats": arguments.repeats},
        arguments.json,
    )


def measure(work: str, setting: dict[str, str], beside: int, seconds: int) -> float:
    """Images/s of `work` in a process of its own, beside that many busy processes."""
    environment = {name: value for name, value in os.environ.items() if name not in SPINS}
    command = [sys.executable, __file__, "--measure", work, "--seconds", str(seconds)]
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(beside)]
    try:
        return float(subprocess.check_output(command, env={**environment, **setting}))
    finally:
        for process in busy:
            process.kill()
            process.wait()


def images_per_second(
    arch: str, size: int, batch_size: int, num_labels: int, trains: bool, seconds: int
) -> float:
    """Images/s of training steps, or of scores in inference mode, after one of each."""
    import torch

    from benchmarks.steps import as_shard, make_batch, make_run
    from lib.config import Config
    from lib.runtime.device import keep_freed_memory
    from lib.training.step import train_step

    device = torch.device("cpu")
    keep_freed_memory(device)
    config = Config(arch=arch, weights="none", embed_type="random", pos=True, img_size=size)
    batch = make_batch(batch_size, num_labels, size)
    run = make_run(config, num_labels, device)
    run.state.model.train(trains)

    def step() -> None:
        if trains:
            train_step(run, as_shard(batch))
            return
        with torch.inference_mode():
            run.state.model(run.preprocess(batch.inputs))

    step()
    begin, steps = time.perf_counter(), 0
    while (passed := time.perf_counter() - begin) < seconds:
        step()
        steps += 1
    return steps * batch_size / passed


if __name__ == "__main__":
    run_main(main)
