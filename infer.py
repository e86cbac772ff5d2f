"""Tag images with an experiment's model, and draw where it looked: into a folder, or on a local
page."""

from argparse import BooleanOptionalAction

from lib.common.arguments import TAG_FORMATS, experiment_parser
from lib.common.cli import (
    comma_separated,
    fraction_or_tuned,
    non_negative_int,
    positive_int,
    run_main,
)
from lib.common.errors import UserError
from lib.common.flags import flag_name
from models.heads import BOTH, MEANINGS

HOST, PORT = "127.0.0.1", 7860
SERVED = {"exp_dir", "device", "precision", "threshold", "map", "serve", "port", "host"}
DRAWN = ("overlays", "boxes", "map")
# flags that exclude others, and flags that need one of others
EXCLUDED = (
    ("images", ("only_errors",)),  # their labels are unknown
    ("tags_only", DRAWN),
    ("format", DRAWN),
    ("skip_done", ("labels",)),  # all labels of an image are recorded
)
NEEDED = (
    ("format", ("images",)),
    ("skip_done", ("images",)),
    ("skip_done", ("tags_only", "format")),
    ("port", ("serve",)),
    ("host", ("serve",)),
)


def main() -> None:
    parser = experiment_parser(
        "Tag images and draw the heatmaps of their labels, into the experiment's visualization/: "
        "index.html (opens from the disk), predictions.jsonl and the raw grids (.npz).",
        threshold="tuned, if evaluate.py --tune-thresholds was run, else as in training, 0.5",
        kind=fraction_or_tuned,
    )
    parser.add_argument(
        "--images",
        nargs="+",
        metavar="FILE_OR_FOLDER",
        help="images to tag (default: the test images of the experiment's data)",
    )
    parser.add_argument(
        "--top",
        type=positive_int,
        help="at most N labels per image, the highest of those that reach --threshold",
    )
    parser.add_argument(
        "--labels",
        type=comma_separated,
        help="show only these labels, as in dog,person, and images with one of them",
    )
    parser.add_argument(
        "--only-errors",
        action="store_true",
        help="only test images with a label that is missed, or predicted wrongly",
    )
    parser.add_argument("--limit", type=positive_int, help="at most N images")
    parser.add_argument(
        "--overlays",
        action=BooleanOptionalAction,
        help="also write each label's heatmap over its image as a JPEG (default: with --images)",
    )
    parser.add_argument(
        "--boxes",
        action="store_true",
        help="also find a box around each label's heatmap, for the page and predictions.jsonl "
        "(pixels of the upright image)",
    )
    parser.add_argument(
        "--tags-only",
        action="store_true",
        help="write predictions.jsonl alone, faster; removes a page and heatmaps of an earlier run",
    )
    parser.add_argument(
        "--format",
        choices=TAG_FORMATS,
        help="tags of --images for other programs, and no page: JSON lines or CSV on stdout, or "
        "XMP files beside the images (photo.jpg.xmp) with the labels as keywords, where no other "
        "program has one",
    )
    parser.add_argument(
        "--skip-done",
        action="store_true",
        help="with --tags-only or --format: continue where earlier runs with this flag ended; "
        "leaves out the --images that they tagged, unless an image or the model has changed since",
    )
    parser.add_argument(
        "--map",
        choices=(*MEANINGS, BOTH),
        help="heatmaps to show first, and in overlays: the patches that the score comes from, "
        "where the label looked, as published, or both (default: evidence, if the --model has it)",
    )
    parser.add_argument(
        "--serve",
        action="store_true",
        help=f"serve a page at {HOST} on which images can be dropped",
    )
    parser.add_argument(
        "--port", type=non_negative_int, help=f"port of --serve; 0: any free one (default: {PORT})"
    )
    parser.add_argument(
        "--host", help=f"address for --serve; other machines may then reach it (default: {HOST})"
    )
    arguments = parser.parse_args()
    require_fitting(arguments)
    if arguments.serve:
        from lib.inference.serve import serve

        serve(arguments, arguments.host or HOST, PORT if arguments.port is None else arguments.port)

    from lib.inference.infer import infer
    from lib.runtime.launch import session

    with session(arguments.device) as world:
        infer(arguments, world)


def require_fitting(arguments) -> None:
    """Raise `UserError` for flags that exclude each other, or that need another one."""
    given = {
        name for name, value in vars(arguments).items() if value is not None and value is not False
    }
    for name, others in (*EXCLUDED, ("serve", tuple(sorted(given - SERVED)))):
        for other in others:
            if {name, other} <= given:
                one, two = flag_name(other), flag_name(name)
                raise UserError(f"{one}: cannot be combined with {two}; leave one out")
    for name, needed in NEEDED:
        if name in given and not given.intersection(needed):
            either = " or ".join(map(flag_name, needed))
            raise UserError(f"{flag_name(name)}: belongs to {either}; pass both")


if __name__ == "__main__":
    run_main(main)
