"""train.py whose losses do not depend on the number of processes; prints the loss of each step.

Without dropout, and in exact float32. On a CPU, where PyTorch does not synchronise batch
statistics, these are frozen too, unless BATCH_STATISTICS=1, for a single process. --compile keeps
PyTorch's own operations, whose code would take minutes to make. STOP_AFTER_STEP=N stops it by
SIGTERM once the loss of step N is known.
"""

import os
import runpy
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.cli import run_main
from lib.config import Config

TRAIN = Path(__file__).resolve().parents[1] / "train.py"


def main() -> None:
    Config.flags()  # or --help would take the seconds of the imports
    import torch
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm

    from lib.experiment.tensorboard import TensorBoard
    from lib.runtime.device import exact_float32
    from lib.training import prepare

    build_model, compile_module = prepare.build_model, nn.Module.compile
    add_scalar = TensorBoard.add_scalar

    def build_comparable(config, *arguments, **options):
        model = build_model(config, *arguments, **options)
        on_cuda = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
        trained = on_cuda or os.environ.get("BATCH_STATISTICS") == "1"
        frozen = (nn.Dropout,) if trained else (nn.Dropout, _BatchNorm)
        for module in model.modules():
            if isinstance(module, frozen):
                module.eval().train = lambda mode=True, module=module: module
            if isinstance(module, nn.MultiheadAttention):
                module.dropout = 0.0
        return model

    def compile_without_code(module):
        compile_module(module, backend="aot_eager")

    def print_loss(board, name, value, step):
        if board.folder and name == "train/loss":
            print(f"step {step}: {value!r}", flush=True)
            if str(step) == os.environ.get("STOP_AFTER_STEP"):
                os.kill(os.getpid(), signal.SIGTERM)
        add_scalar(board, name, value, step)

    prepare.build_model = build_comparable
    nn.Module.compile = compile_without_code
    TensorBoard.add_scalar = print_loss
    with exact_float32():
        runpy.run_path(str(TRAIN), run_name="__main__")


if __name__ == "__main__":
    run_main(main)
