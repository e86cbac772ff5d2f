"""Export a trained experiment.

--format onnx and torch_export write one program each, from uint8 pictures to scores and heatmaps,
which is run and compared before it is kept. --format published writes an experiment folder of the
published form, whose config.yaml and checkpoint the published code and this project read.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.cli import Parser, folder_path, run_main

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
        "--format", required=True, choices=("onnx", "torch_export", "published"), help="the form"
    )
    parser.add_argument(
        "--save-dir", type=folder_path, help="where to write (default: a folder in the experiment)"
    )
    parser.add_argument(
        "--images",
        nargs="+",
        metavar="FILE_OR_FOLDER",
        help="pictures to compare the exported program on (default: the first test images)",
    )
    arguments = parser.parse_args()
    write = export_published if arguments.format == "published" else export_program
    write(arguments)


def export_published(arguments) -> None:
    from lib.common.console import print_line
    from lib.common.errors import UserError
    from lib.experiment.loading import load_experiment
    from lib.export import published as export

    if arguments.images:
        raise UserError("--images: nothing is compared with --format published; leave it out")
    loaded = load_experiment(arguments.exp_dir)
    target = arguments.save_dir or loaded.experiment.path / arguments.format
    export.export_published(loaded, target)
    print_line(f"published form: {target}")
    for caveat in export.caveats(loaded, target):
        print_line(f"note: {caveat}")


def export_program(arguments) -> None:
    from lib.common.console import print_line
    from lib.export.graph import (
        FORMATS,
        export_graph,
        noise,
        pictures,
        require_packages,
    )
    from lib.inference.infer import find_images
    from lib.predictor import Predictor

    require_packages(arguments.format)
    predictor = Predictor(arguments.exp_dir, device="cpu")
    if arguments.images:
        paths = find_images(arguments.images).paths
    else:
        paths = test_images(predictor)
    images = pictures(predictor, paths) if paths else noise(predictor, COMPARED)
    target = arguments.save_dir or predictor.experiment.path / arguments.format
    difference = export_graph(predictor, arguments.format, target, images)
    print_line(f"{arguments.format}: {target / FORMATS[arguments.format].file}")
    kind = "pictures" if paths else "made-up pictures, as no test image is at hand (see --images)"
    print_line(f"differs from PyTorch by at most {difference:.1e} on {len(images)} {kind}")
    if predictor.config.amp:
        print_line(
            "note: the scores are those of float32; evaluate.py's are of --amp, as in training"
        )


def test_images(predictor) -> list[str]:
    """The first images of the experiment's test split; none where it is not at hand."""
    from lib.common.errors import UserError
    from lib.data.folder import DataFolder

    try:
        return DataFolder.open(predictor.config.data).split("test").paths[:COMPARED]
    except UserError:
        return []


if __name__ == "__main__":
    run_main(main)
