"""Flags that several commands have in common, and their choices. Imports no torch."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from lib.common.cli import (
    DEVICES,
    HUB,
    Parser,
    at_least,
    device_name,
    folder_path,
    fraction,
    non_negative_int,
    positive_int,
)

TAG_FORMATS = ("json", "csv", "xmp")
PRECISIONS = ("float32", "bfloat16", "auto")
BERT = "bert-base-uncased"  # the text model of the published label vectors
# kinds of label embeddings, <kind>.npy of a data folder -> the flags of embedding.py that make it
EMBEDDINGS = {"bert": "", "glove": " --glove FILE", "text": " --text-model FOLDER"}
OUT_OF_VOCABULARY = ("error", "zero", "mean")  # what to do about words without a vector


def experiment_parser(
    description: str, threshold: str, kind: Callable[[str], float | str] | None = None
) -> Parser:
    """A parser with the flags that evaluate.py and infer.py have in common.

    `threshold` describes the default of --threshold, `kind` is its type (default: a fraction).
    """
    parser = Parser(description=description)
    parser.add_argument(
        "--exp-dir",
        required=True,
        type=experiment_path,
        help="experiment folder that train.py made, or only its best_ema_model.pth; or an exported "
        "model: its folder, or hf://user/name on the Hugging Face Hub",
    )
    parser.add_argument(
        "--threshold",
        type=kind or fraction,
        help=f"score from which a label counts as predicted (default: {threshold})",
    )
    parser.add_argument(
        "--batch-size",
        type=positive_int,
        help="batch size (default: as in training, at most 64)",
    )
    parser.add_argument(
        "--device", type=device_name, default="auto", help=f"device to compute on: {DEVICES}"
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="float32, or bfloat16 in mixed precision; auto: bfloat16 where the device computes it "
        "itself (default: as in training, but float32 on a CPU that does not)",
    )
    parser.add_argument(
        "--workers",
        type=non_negative_int,
        help="data loading worker processes of a rank (default: one per core, at most 16)",
    )
    return parser


def add_bootstrap_flags(parser: Parser) -> None:
    """Add the flags of the scripts that compute bootstrap intervals."""
    parser.add_argument(
        "--resamples",
        type=at_least(20),
        default=500,
        help="bootstrap resamples, 20 or more (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=non_negative_int,
        default=0,
        help="random seed of the bootstrap (default: %(default)s)",
    )


def preprocess_parser(description: str, data_dir: str | None, save_dir: str | None) -> Parser:
    """A parser with the flags that the preprocessing scripts have in common.

    Without a `data_dir` or `save_dir` it has no such flag.
    """
    parser = Parser(description=description)
    if data_dir:
        parser.add_argument(
            "--data-dir",
            type=folder_path,
            default=data_dir,
            help="folder of the official files (default: %(default)s)",
        )
    if save_dir:
        parser.add_argument(
            "--save-dir",
            type=folder_path,
            default=save_dir,
            help="output folder (default: %(default)s)",
        )
    parser.add_argument(
        "--check-images", action="store_true", help="open every image and report damaged ones"
    )
    parser.add_argument(
        "--skip-missing",
        action="store_true",
        help="leave out missing images (and damaged ones, with --check-images)",
    )
    parser.add_argument(
        "--val",
        type=fraction,
        default=0.0,
        help="fraction of train to split off as val.txt, stratified by label "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=non_negative_int, default=0, help="random seed (default: %(default)s)"
    )
    return parser


def parse_with_year(parser: Parser, years: Mapping[str, tuple[str, str]]) -> argparse.Namespace:
    """Parse the command line of a `preprocess_parser`, with a flag `--year` of its own.

    `years` maps each to the defaults of --data-dir and --save-dir; the first is the default.
    """
    parser.add_argument(
        "--year",
        choices=years,
        default=next(iter(years)),
        help="year of the data set, which the default folders follow (default: %(default)s)",
    )
    data_dir, save_dir = years[parser.parse_known_args()[0].year]
    parser.set_defaults(data_dir=Path(data_dir), save_dir=Path(save_dir))
    return parser.parse_args()


def experiment_path(text: str) -> str | Path:
    """Type of a flag: a folder or file, or a name of the Hugging Face Hub."""
    return text if text.startswith(HUB) else folder_path(text)
