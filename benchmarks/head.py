"""Heads alone, on the tokens of a backbone: scores, loss and gradients of a batch in training mode,
and scores in eval mode. All heads, or the method's and those of --model.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.arguments import METHOD, peers, step_arguments, step_config, step_facts
from lib.common.cli import run_main
from models.heads import HEADS


def main() -> None:
    arguments = step_arguments(__doc__, batch_size=8, repeats=5)

    from functools import partial

    import torch

    from benchmarks.measure import peak_bytes, report
    from benchmarks.steps import make_batch, make_run
    from lib.experiment.network import head_parameters, prepare_for_inference
    from lib.runtime.device import autocast, keep_freed_memory, select_device
    from lib.runtime.timing import median_seconds
    from lib.training.losses import objective

    device = select_device(arguments.device)
    keep_freed_memory(device)
    batch = make_batch(arguments.batch_size, arguments.num_labels, arguments.img_size)
    targets, ignore = batch.targets.to(device), batch.ignore.to(device)

    def train(run, tokens) -> None:
        run.state.model.zero_grad()
        tokens.grad = None
        with autocast(device, arguments.amp):
            output = run.state.model.head(tokens)
        objective(run.loss, output, targets, ignore, run.config.lamda).total.backward()

    def evaluate(model, tokens) -> None:
        with torch.inference_mode(), autocast(device, arguments.amp):
            model.head(tokens)

    names = list(dict.fromkeys([METHOD, *(peers(arguments) or HEADS)]))
    training, evaluation, sizes = {}, {}, {}
    for name in names:
        run = make_run(step_config(arguments, name), arguments.num_labels, device)
        model = run.state.model.train()
        tokens = torch.randn(arguments.batch_size, *model.token_shape, device=device)
        needed = tokens.clone().requires_grad_()  # as by a backbone that is trained
        training[name] = partial(train, run, needed)
        quick = prepare_for_inference(run.state.ema.model, arguments.img_size)
        evaluation[name] = partial(evaluate, quick, tokens)
        sizes[name] = head_parameters(model) / 1e6
    trained = median_seconds(training, arguments.repeats, device)
    evaluated = median_seconds(evaluation, arguments.repeats, device)
    memory = {name: peak_bytes(training[name], device) / 2**20 for name in names}
    count = arguments.batch_size
    report(
        "heads alone",
        ("head", "training, images/s", "its peak MiB", "eval, images/s", "head parameters, M"),
        [
            (name, count / trained[name], memory[name], count / evaluated[name], sizes[name])
            for name in names
        ],
        {
            f"{kind}_vs_{name}": seconds[name] / seconds[METHOD]
            for kind, seconds in (("training", trained), ("eval", evaluated))
            for name in names[1:]
        },
        step_facts(arguments) | {"tokens": " x ".join(map(str, tokens.shape[1:]))},
        arguments.json,
    )


if __name__ == "__main__":
    run_main(main)
