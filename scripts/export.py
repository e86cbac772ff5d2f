"""Export a trained experiment.

--format onnx and torch_export write one program each, from uint8 pictures to scores and heatmaps,
which is run and compared before it is kept. --format published writes an experiment folder of the
published form, whose config.yaml and checkpoint the published code and this project read. --format
hub writes a folder to pass on: weights, settings, and a card with the scores of evaluate.py.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.cli import Parser, folder_path, run_main
from lib.common.errors import UserError

COMPARED = 4  # test images on which an export is tried, without --images


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--exp-dir",
        required=True,
        type=folder_path,
        help="experiment folder, or its checkpoint alone",
    )
    parser.add_argument(
        "--format",
        required=True,
        choices=("onnx", "torch_export", "published", "hub"),
        help="the form",
    )
    parser.add_argument(
        *("--save-dir", "--out"),
        type=folder_path,
        help="where to write (default: a folder in the experiment)",
    )
    parser.add_argument(
        "--images",
        nargs="+",
        metavar="FILE_OR_FOLDER",
        help="images to compare the exported program on (default: the first test images)",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="hub: how weights are stored (default: float32); bfloat16 takes half the size, and "
        "changes scores a little",
    )
    parser.add_argument(
        "--name",
        help="hub: what the card calls the model, such as hf://user/name (default: the folder's "
        "name)",
    )
    parser.add_argument("--licence", help="hub: the licence of the model, such as apache-2.0")
    parser.add_argument(
        "--examples",
        action="store_true",
        help="hub: put two test images with their heatmaps into the card (see their licence first)",
    )
    arguments = parser.parse_args()
    form, exp_dir = arguments.format, arguments.exp_dir
    for flag in ("name", "dtype", "licence", "examples"):
        if getattr(arguments, flag) and form != "hub":
            raise UserError(f"--{flag}: belongs to --format hub; leave it out")
    if arguments.images and form == "published":
        raise UserError("--images: nothing is compared with --format published; leave it out")
    folder = exp_dir.parent if exp_dir.is_file() else exp_dir
    target = arguments.save_dir or folder / form
    if target.exists():
        raise UserError(f"{target}: exists; remove it, or pass another --save-dir")
    write = {"published": export_published, "hub": export_hub}.get(form, export_program)
    write(arguments, target)


def export_hub(arguments, target: Path) -> None:
    from lib.common.console import print_line
    from lib.common.files import staged_folder, write_text
    from lib.experiment.hub import CARD, WEIGHTS
    from lib.export.hub import write_model
    from lib.predictor import Predictor
    from lib.reports.card import model_card
    from lib.reports.examples import write_examples
    from lib.reports.results import open_evaluated, run_again

    run = open_evaluated(arguments.exp_dir)
    run.require_checkpoint(run_again(arguments.exp_dir))
    dtype = arguments.dtype or "float32"
    predictor = Predictor(arguments.exp_dir, device="cpu")
    images, kind = compared_images(arguments, predictor)
    with staged_folder(target) as stage:
        difference = write_model(arguments.exp_dir, predictor, stage, images, dtype)
        compared = f"at most {difference:.1e} on {len(images)} {kind}"
        precision = f"Weights are stored in {dtype}."
        if dtype != "float32":
            precision += f" Scores differ from those of float32 by {compared}."
        card = model_card(
            run._replace(config=predictor.config),  # also where there is no config.yaml
            name=arguments.name or (target if arguments.save_dir else run.path.resolve()).name,
            precision=precision,
            heatmap=predictor.model.maps[0],
            licence=arguments.licence,
            pictures=write_examples(run.path, stage) if arguments.examples else [],
        )
        write_text(stage / CARD, card)
    print_line(f"hub: {target / WEIGHTS} and its card, {target / CARD}")
    print_line(f"scores differ by {compared}")
    if not arguments.licence:
        print_line("note: the card names no licence: pass --licence, such as --licence apache-2.0")


def export_published(arguments, target: Path) -> None:
    from lib.common.console import print_line
    from lib.experiment.loading import load_experiment
    from lib.export import published

    loaded = load_experiment(arguments.exp_dir)
    published.export_published(loaded, target)
    print_line(f"published form: {target}")
    for caveat in published.caveats(loaded, target):
        print_line(f"note: {caveat}")


def export_program(arguments, target: Path) -> None:
    from lib.common.console import print_line
    from lib.export.graph import FORMATS, export_graph
    from lib.predictor import Predictor

    predictor = Predictor(arguments.exp_dir, device="cpu")
    images, kind = compared_images(arguments, predictor)
    difference = export_graph(predictor, arguments.format, target, images)
    print_line(f"{arguments.format}: {target / FORMATS[arguments.format].file}")
    print_line(f"differs from PyTorch by at most {difference:.1e} on {len(images)} {kind}")
    if predictor.config.amp:
        print_line(
            "note: the scores are those of float32; evaluate.py's are of --amp, as in training"
        )


def compared_images(arguments, predictor) -> tuple["np.ndarray", str]:
    """What an export is tried on: pixels (B, S, S, 3), and what they are."""
    from lib.data.folder import DataFolder
    from lib.export.graph import noise, pictures
    from lib.inference.infer import find_images

    if arguments.images:
        return pictures(predictor, find_images(arguments.images)[0]), "images"
    try:
        paths = DataFolder.open(predictor.config.data).split("test").paths[:COMPARED]
    except UserError:
        made_up = "made-up images, as no test image is at hand (see --images)"
        return noise(predictor, COMPARED), made_up
    return pictures(predictor, paths), "images"


if __name__ == "__main__":
    run_main(main)
