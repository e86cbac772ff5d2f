"""A whole training step (pixels to updated average): the method as it is here, against its literal,
unfused form in float32, against the bare backbone and the heads of --model at the same precision.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.arguments import peers, step_arguments, step_config, step_facts
from lib.common.cli import run_main


def main() -> None:
    arguments = step_arguments(__doc__, batch_size=8, repeats=3, compiles=True)

    from dataclasses import replace
    from functools import partial

    from benchmarks.measure import peak_bytes, report
    from benchmarks.steps import (
        COLUMNS,
        BackboneStep,
        LiteralStep,
        as_shard,
        make_batch,
        make_run,
        rows,
    )
    from lib.runtime.device import choose_fastest_convolutions, keep_freed_memory, select_device
    from lib.runtime.timing import median_seconds
    from lib.training.step import train_step

    device = select_device(arguments.device)
    keep_freed_memory(device)
    choose_fastest_convolutions()  # as train.py does on CUDA
    config = step_config(arguments)
    batch = make_batch(arguments.batch_size, arguments.num_labels, arguments.img_size)
    run = make_run(config, arguments.num_labels, device)
    run.state.model.train()
    other = make_run(config, arguments.num_labels, device)
    bare = BackboneStep(other, arguments.num_labels, config.amp)
    literal = LiteralStep(config, arguments.num_labels, device)

    def method() -> None:
        train_step(run, as_shard(batch))

    steps = {"literal": lambda: literal(batch), "method": method, "backbone": lambda: bare(batch)}
    models = {
        "literal": literal.run.state.model,
        "method": run.state.model,
        "backbone": bare.model,
    }
    others = {name: step_config(arguments, name) for name in peers(arguments)}
    if arguments.compile:
        others["method, compiled"] = replace(config, compile=True)
    for name, settings in others.items():
        other = make_run(settings, arguments.num_labels, device)
        models[name] = other.state.model.train()
        steps[name] = partial(train_step, other, as_shard(batch))
    seconds = median_seconds(steps, arguments.repeats, device)
    memory = {name: peak_bytes(step, device) for name, step in steps.items()}
    report(
        "training step",
        COLUMNS,
        rows(seconds, memory, models, arguments.batch_size),
        {
            "train_step_vs_literal": seconds["literal"] / seconds["method"],
            "train_step_over_backbone": seconds["method"] / seconds["backbone"],
            "train_memory_over_backbone": memory["method"] / memory["backbone"],
            **{
                f"train_step_vs_{name}": seconds[name] / seconds["method"]
                for name in peers(arguments)
            },
        },
        step_facts(arguments),
        arguments.json,
    )


if __name__ == "__main__":
    run_main(main)
