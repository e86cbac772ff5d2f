"""Scores and attention of a batch in eval mode: the method as evaluate.py runs it, against its
literal, unfused form in float32 and against the bare backbone at the same precision.
"""

import copy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.cli import DEVICES, Parser, positive_int, run_main


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--arch", default="resnet101")
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--amp", action="store_true", help="mixed precision, but for the literal")
    parser.add_argument("--batch-size", type=positive_int, default=4)
    parser.add_argument("--img-size", type=positive_int, default=448)
    parser.add_argument("--num-labels", type=positive_int, default=80)
    parser.add_argument("--repeats", type=positive_int, default=5)
    parser.add_argument("--json", type=Path, help="write the results here too")
    arguments = parser.parse_args()

    import torch

    from benchmarks.measure import median_seconds, peak_bytes, report
    from benchmarks.steps import BareBackbone, literal, make_batch, make_learner
    from lib.builder import make_quick
    from lib.config import Config
    from lib.device import autocast, select_device

    device = select_device(arguments.device)
    config = Config(
        arch=arguments.arch,
        weights="none",
        embed_type="random",
        pos=True,
        amp=arguments.amp,
        img_size=arguments.img_size,
    )
    batch = make_batch(arguments.batch_size, arguments.num_labels, arguments.img_size)
    learner = make_learner(config, arguments.num_labels, device)
    quick = make_quick(copy.deepcopy(learner.model), arguments.img_size)
    bare = BareBackbone(learner.model.backbone, arguments.num_labels).to(device).eval()
    slow = literal(make_learner(config, arguments.num_labels, device).model).eval()
    normalizer = learner.normalizer

    def plain() -> None:
        with torch.no_grad():
            pixels = batch.pixels.to(device).float() / 255
            slow((pixels - normalizer.mean) / normalizer.std)

    def run(model: torch.nn.Module) -> None:
        with torch.inference_mode(), autocast(device, arguments.amp):
            model(normalizer(batch.pixels.to(device)))

    forms = {"literal": plain, "method": lambda: run(quick), "backbone": lambda: run(bare)}
    seconds = median_seconds(forms, arguments.repeats, device)
    memory = {name: peak_bytes(step, device) for name, step in forms.items()}
    report(
        "scores in eval mode",
        ("form", "seconds", "images/s", "peak MiB beyond weights"),
        [
            (name, seconds[name], len(batch.index) / seconds[name], memory[name] / 2**20)
            for name in forms
        ],
        {
            "eval_vs_literal": seconds["literal"] / seconds["method"],
            "eval_over_backbone": seconds["method"] / seconds["backbone"],
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
