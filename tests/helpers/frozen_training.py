"""train.py without dropout, with normalisation statistics frozen; prints the loss of each step.
--compile keeps PyTorch's own operations, whose code would take minutes to make.

PyTorch synchronises batch statistics on CUDA only, so that this is how a CPU can show that the
number of processes changes nothing. It is copied elsewhere to be run: in `tests`, Python
would import `tests/lib` as `lib`.
"""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lib.common.cli import run_main
from lib.experiment.tensorboard import TensorBoard
from lib.training import prepare
from train import main

build_model = prepare.build_model
add_scalar = TensorBoard.add_scalar
compile_module = nn.Module.compile


def build_frozen(*arguments, **options):
    model = build_model(*arguments, **options)
    for module in model.modules():
        if isinstance(module, (_BatchNorm, nn.Dropout)):
            module.eval().train = lambda mode=True, module=module: module
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return model


def print_loss(board, name, value, step):
    if board.folder and name == "train/loss":
        print(f"step {step}: {value!r}", flush=True)
    add_scalar(board, name, value, step)


def compile_without_code(module):
    compile_module(module, backend="aot_eager")


prepare.build_model = build_frozen
nn.Module.compile = compile_without_code
TensorBoard.add_scalar = print_loss
run_main(main)
