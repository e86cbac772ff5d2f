"""Scores and attention of a batch in eval mode: the method as evaluate.py runs it, against its
literal, unfused form in float32, against the bare backbone and the heads of --model at the same
precision.
"""

import copy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.arguments import peers, step_arguments, step_config, step_facts
from lib.common.cli import run_main


def main() -> None:
    arguments = step_arguments(__doc__, batch_size=4, repeats=5, compiles=True)

    from functools import partial

    import torch

    from benchmarks.measure import peak_bytes, report
    from benchmarks.steps import (
        COLUMNS,
        BareBackbone,
        literal,
        make_batch,
        make_run,
        rows,
    )
    from lib.experiment.network import prepare_for_inference
    from lib.runtime.device import autocast, keep_freed_memory, select_device
    from lib.runtime.timing import median_seconds

    device = select_device(arguments.device)
    keep_freed_memory(device)
    config = step_config(arguments)
    batch = make_batch(arguments.batch_size, arguments.num_labels, arguments.img_size)
    run = make_run(config, arguments.num_labels, device)
    model = run.state.model
    quick = prepare_for_inference(copy.deepcopy(model), arguments.img_size)
    bare = BareBackbone(model.backbone, arguments.num_labels).to(device).eval()
    slow = literal(make_run(config, arguments.num_labels, device).state.model).eval()
    normalizer = run.preprocess

    def plain() -> None:
        with torch.no_grad():
            pixels = batch.inputs.to(device).float() / 255
            slow((pixels - normalizer.mean) / normalizer.std)

    def score(model: torch.nn.Module) -> None:
        with torch.inference_mode(), autocast(device, arguments.amp):
            model(normalizer(batch.inputs.to(device)))

    models = {"literal": slow, "method": quick, "backbone": bare}
    for name in peers(arguments):
        other = make_run(step_config(arguments, name), arguments.num_labels, device)
        models[name] = prepare_for_inference(other.state.model, arguments.img_size)
    if arguments.compile:
        models["method, compiled"] = copy.deepcopy(quick)
        models["method, compiled"].compile()
    forms = {name: partial(score, model) for name, model in models.items()} | {"literal": plain}
    seconds = median_seconds(forms, arguments.repeats, device)
    memory = {name: peak_bytes(step, device) for name, step in forms.items()}
    report(
        "scores in eval mode",
        COLUMNS,
        rows(seconds, memory, models, arguments.batch_size),
        {
            "eval_vs_literal": seconds["literal"] / seconds["method"],
            "eval_over_backbone": seconds["method"] / seconds["backbone"],
            **{f"eval_vs_{name}": seconds[name] / seconds["method"] for name in peers(arguments)},
        },
        step_facts(arguments),
        arguments.json,
    )


if __name__ == "__main__":
    run_main(main)
