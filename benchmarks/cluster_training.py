"""train.py on a toy network, whatever the other flags ask for: for `scripts/cluster_check.sh`.

SECONDS_PER_STEP lengthens each step, for time to stop it in, of a run that was not resumed.
"""

import os
import runpy
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.cli import run_main
from lib.config import Config

TRAIN = Path(__file__).resolve().parents[1] / "train.py"
TOY = (
    "--arch test_resnet --weights none --embed-type random --img-size 64 --batch-size 8 --lr 1e-3 "
    "--max-epochs 12 --ema-decay 0.9 --device cpu --workers 0"
).split()


def main() -> None:
    Config.flags()  # or --help would take the seconds of the imports
    from lib.training import fit

    pause = float(os.environ.get("SECONDS_PER_STEP", "0"))
    leave_if_asked = fit.leave_if_asked
    steps: list[int] = []

    def pause_first(run, *arguments):
        steps.append(run.state.step)
        time.sleep(pause if steps[0] == 1 else 0)
        leave_if_asked(run, *arguments)

    fit.leave_if_asked = pause_first
    sys.argv += TOY  # which replace the same flags before them
    runpy.run_path(str(TRAIN), run_name="__main__")


if __name__ == "__main__":
    run_main(main)
