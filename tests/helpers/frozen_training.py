"""train.py without dropout, with normalisation statistics frozen; prints the loss of each step.

PyTorch synchronises batch statistics on CUDA only, so that this is how a CPU can show that the
number of processes changes nothing. It is copied elsewhere to be run: beside `tests/lib`, Python
would take that for `lib`.
"""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lib.common.cli import run_main
from lib.experiment import network as builder
from lib.training import fit as trainer
from train import main

build_model = builder.build_model


def build_frozen(*arguments, **options):
    model = build_model(*arguments, **options)
    for module in model.modules():
        if isinstance(module, (_BatchNorm, nn.Dropout)):
            module.eval().train = lambda mode=True, module=module: module
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return model


def print_loss(self, step, loss):
    if self.world.is_main_process:
        print(f"step {step.number}: {loss!r}", flush=True)
    note(self, step, loss)


builder.build_model = build_frozen
note = trainer.Trainer._note
trainer.Trainer._note = print_loss
run_main(main)
