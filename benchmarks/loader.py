"""The way from picture files to batches on one core: decoding, resizing and the random policy one
by one, and the whole of it in the published order of work, here, and here with the cache.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.cli import Parser, positive_int, run_main


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--images", required=True, type=Path, help="a folder of photographs")
    parser.add_argument("--count", type=positive_int, default=64, help="photographs to read")
    parser.add_argument("--img-size", type=positive_int, default=448)
    parser.add_argument("--repeats", type=positive_int, default=5)
    parser.add_argument("--json", type=Path, help="write the results here too")
    arguments = parser.parse_args()

    import numpy as np
    import torch
    from torchvision.transforms import functional

    from benchmarks.measure import median_seconds, report
    from lib.data.bad_images import BadImages
    from lib.data.cache import cached_images
    from lib.data.dataset import SampleKey, training_view
    from lib.data.transforms import read_image, resize, to_pixels, train_transform
    from lib.inference.infer import find_images

    torch.set_num_threads(1)
    size, cpu = arguments.img_size, torch.device("cpu")
    paths = find_images([str(arguments.images)])[: arguments.count]
    decoded = [read_image(path) for path in paths]
    resized = [resize(image, size) for image in decoded]
    keys = [SampleKey(0, row) for row in range(len(paths))]
    normal = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}

    def augmented(image, key):
        return training_view(image, key, size=size, augment="published", seed=0)

    def published(train: bool) -> None:
        """Floats, normalised image by image on the processor."""
        for path, key in zip(paths, keys, strict=True):
            image = read_image(path)
            image = augmented(image, key) if train else resize(image, size)
            functional.normalize(functional.to_tensor(image), **normal)

    def ours(train: bool) -> None:
        for path, key in zip(paths, keys, strict=True):
            image = read_image(path)
            to_pixels(augmented(image, key) if train else resize(image, size))

    with tempfile.TemporaryDirectory() as folder:
        cache = cached_images(paths, size, Path(folder), 100, 1, BadImages())

        def cached(train: bool) -> None:
            for row, key in enumerate(keys):
                image = cache.image(row)
                to_pixels(augmented(image, key) if train else resize(image, size))

        functions = {
            "decode": lambda: [read_image(path) for path in paths],
            "resize": lambda: [resize(image, size) for image in decoded],
            "random policy": lambda: [
                train_transform(image, size, "published", np.random.default_rng((0, row)))
                for row, image in enumerate(resized)
            ],
            "to uint8 pixels": lambda: [to_pixels(image) for image in resized],
            "train, published order": lambda: published(True),
            "train": lambda: ours(True),
            "train, cached": lambda: cached(True),
            "eval, published order": lambda: published(False),
            "eval": lambda: ours(False),
            "eval, cached": lambda: cached(False),
        }
        seconds = median_seconds(functions, arguments.repeats, cpu)
    report(
        "input, one core",
        ("work", "images/s"),
        [(name, len(paths) / seconds[name]) for name in functions],
        {
            "loader_train_vs_published": seconds["train, published order"]
            / seconds["train, cached"],
            "loader_eval_vs_published": seconds["eval, published order"] / seconds["eval, cached"],
            "loader_train_vs_published_without_cache": seconds["train, published order"]
            / seconds["train"],
            "loader_eval_vs_published_without_cache": seconds["eval, published order"]
            / seconds["eval"],
        },
        {"images": len(paths), "side": size, "largest pixel difference": 0},
        arguments.json,
    )


if __name__ == "__main__":
    run_main(main)
