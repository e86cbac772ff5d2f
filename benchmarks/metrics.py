"""All scores of a test split of MS-COCO's size (40,137 images, 80 labels), on one core."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.cli import Parser, positive_int, run_main


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--images", type=positive_int, default=40137)
    parser.add_argument("--num-labels", type=positive_int, default=80)
    parser.add_argument("--repeats", type=positive_int, default=5)
    parser.add_argument("--json", type=Path, help="write the results here too")
    arguments = parser.parse_args()

    import numpy as np
    import torch

    from benchmarks.measure import report
    from lib.runtime.timing import median_seconds
    from lib.scoring.metrics import average_precision, f1_scores

    random = np.random.default_rng(0)
    shape = (arguments.images, arguments.num_labels)
    scores = random.random(shape, np.float32)
    targets = (random.random(shape) < 0.04).astype(np.uint8)
    ignore = random.random(shape) < 0.01
    functions = {
        "average precision": lambda: average_precision(scores, targets, ignore),
        "threshold scores": lambda: f1_scores(scores, targets, ignore),
        "top-k scores": lambda: f1_scores(scores, targets, ignore, topk=3),
    }
    seconds = median_seconds(functions, arguments.repeats, torch.device("cpu"))
    total = sum(seconds.values())
    report(
        "scores",
        ("part", "seconds"),
        [*seconds.items(), ("all", total)],
        {"metrics_seconds": total},
        {"shape": f"{shape[0]} x {shape[1]}"},
        arguments.json,
    )


if __name__ == "__main__":
    run_main(main)
