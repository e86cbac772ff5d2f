"""A whole training step (pixels to updated average): the method as it is here, against its literal,
unfused form in float32 and against the bare backbone at the same precision.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.cli import DEVICES, Parser, positive_int, run_main


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--arch", default="resnet101")
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--amp", action="store_true", help="mixed precision, but for the literal")
    parser.add_argument("--batch-size", type=positive_int, default=8)
    parser.add_argument("--img-size", type=positive_int, default=448)
    parser.add_argument("--num-labels", type=positive_int, default=80)
    parser.add_argument("--repeats", type=positive_int, default=3)
    parser.add_argument("--json", type=Path, help="write the results here too")
    arguments = parser.parse_args()

    from benchmarks.measure import median_seconds, peak_bytes, report
    from benchmarks.steps import BackboneStep, LiteralStep, make_batch, make_learner
    from lib.config import Config
    from lib.device import select_device
    from lib.engine import agree_on, train_step

    device = select_device(arguments.device)
    config = Config(
        arch=arguments.arch,
        weights="none",
        embed_type="random",
        pos=True,
        amp=arguments.amp,
        img_size=arguments.img_size,
        batch_size=arguments.batch_size,
    )
    batch = make_batch(arguments.batch_size, arguments.num_labels, arguments.img_size)
    learner = make_learner(config, arguments.num_labels, device)
    learner.model.train()
    bare = BackboneStep(make_learner(config, arguments.num_labels, device), arguments.num_labels)
    literal = LiteralStep(config, arguments.num_labels, device)

    def method() -> None:
        train_step(learner, batch, agree_on(batch, learner.world, 1), epoch=0)

    steps = {"literal": lambda: literal(batch), "method": method, "backbone": lambda: bare(batch)}
    seconds = median_seconds(steps, arguments.repeats, device)
    memory = {name: peak_bytes(step, device) for name, step in steps.items()}
    report(
        "training step",
        ("form", "seconds", "images/s", "peak MiB beyond weights"),
        [
            (name, seconds[name], len(batch.index) / seconds[name], memory[name] / 2**20)
            for name in steps
        ],
        {
            "train_step_vs_literal": seconds["literal"] / seconds["method"],
            "train_step_over_backbone": seconds["method"] / seconds["backbone"],
            "train_memory_over_backbone": memory["method"] / memory["backbone"],
        },
        {
            "arch": arguments.arch,
            "amp": arguments.amp,
            "shape": f"B {arguments.batch_size}, C {arguments.num_labels}, S {arguments.img_size}",
            "repeats": arguments.repeats,
        },
        arguments.json,
    )


if __name__ == "__main__":
    run_main(main)
