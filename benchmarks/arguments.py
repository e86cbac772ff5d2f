"""The flags that the step benchmarks share, and the run that they stand for; imports no torch."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from lib.common.cli import Parser, device_name, positive_int
from lib.config import Config
from models.heads import HEADS

METHOD = "mlic"


def step_arguments(
    description: str, batch_size: int, repeats: int, compiles: bool = False
) -> Namespace:
    """Parse the command line, with --compile if the benchmark has it; the numbers are defaults."""
    parser = Parser(description=description)
    parser.add_argument("--arch", default="resnet101")
    parser.add_argument("--device", type=device_name, default="auto")
    parser.add_argument("--amp", action="store_true", help="mixed precision, but for the literal")
    if compiles:
        parser.add_argument("--compile", action="store_true", help="also the method compiled")
    parser.add_argument(
        "--model",
        nargs="+",
        default=[],
        choices=list(HEADS),
        help=f"also these heads of other methods; {METHOD}, the method's own, is always measured",
    )
    parser.add_argument("--batch-size", type=positive_int, default=batch_size)
    parser.add_argument("--img-size", type=positive_int, default=448)
    parser.add_argument("--num-labels", type=positive_int, default=80)
    parser.add_argument("--repeats", type=positive_int, default=repeats)
    parser.add_argument("--json", type=Path, help="write the results here too")
    return parser.parse_args()


def peers(arguments: Namespace) -> list[str]:
    """The heads of other methods among --model, each once."""
    return [name for name in dict.fromkeys(arguments.model) if name != METHOD]


def step_config(arguments: Namespace, model: str = METHOD) -> Config:
    """The head `model` with random weights; the method's with learned label embeddings."""
    own: dict[str, Any] = {"embed_type": "random", "pos": True} if model == METHOD else {}
    return Config(
        model=model,
        arch=arguments.arch,
        weights="none",
        **own,
        amp=arguments.amp,
        img_size=arguments.img_size,
        batch_size=arguments.batch_size,
    )


def step_facts(arguments: Namespace) -> dict[str, Any]:
    """What a report says of its shapes."""
    shape = f"B {arguments.batch_size}, C {arguments.num_labels}, S {arguments.img_size}"
    return {
        "arch": arguments.arch,
        "amp": arguments.amp,
        "shape": shape,
        "repeats": arguments.repeats,
    }
