"""The way from picture files to batches. On one core: decoding, resizing and the random policy one
by one, and the whole of it in the published order of work, here, and here with the cache. Then what
the loader of a training feeds with all its workers.
"""

import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.cli import UPRIGHT, Parser, positive_int, run_main
from lib.common.errors import UserError

BATCH_SIZE, BATCHES = 16, 4  # of each worker, in a run of the loader


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--images", type=Path, help="a folder of photographs (default: smooth noise, as JPEG)"
    )
    parser.add_argument("--count", type=positive_int, default=64, help="photographs to read")
    parser.add_argument("--img-size", type=positive_int, default=448)
    parser.add_argument("--repeats", type=positive_int, default=5)
    parser.add_argument("--workers", type=positive_int, help="(default: as many as train.py takes)")
    parser.add_argument("--json", type=Path, help="write the results here too")
    arguments = parser.parse_args()

    import torch

    from benchmarks.measure import report
    from lib.data.bad_images import BadImages
    from lib.data.cache import cached_images
    from lib.data.pictures import images_in
    from lib.data.workers import default_workers
    from lib.runtime.timing import median_seconds

    torch.set_num_threads(1)
    workers = arguments.workers or default_workers()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = arguments.images or write_pictures(folder / "noise", arguments.count)
        paths = [str(path) for path in images_in(Path(images))[: arguments.count]]
        if not paths:
            raise UserError(f"--images {images}: no image in this folder")
        cache = cached_images(
            paths, arguments.img_size, UPRIGHT, folder / "cache", 100, workers, BadImages()
        )
        cpu = torch.device("cpu")
        on_one_core = median_seconds(one_core(paths, cache, arguments), arguments.repeats, cpu)
        fed = {
            f"{name}, {workers} workers": run
            for name, run in loaders(paths, cache, arguments, workers)
        }
        seconds = on_one_core | median_seconds(fed, arguments.repeats, cpu)

    def ratio(slow: str, fast: str) -> float:
        return seconds[slow] / seconds[fast]

    speeds = {name: len(paths) / value for name, value in on_one_core.items()}
    images = len(repeated(paths, workers))
    speeds |= {name: images / seconds[name] for name in fed}
    report(
        "input, on one core and with all workers",
        ("work", "images/s"),
        list(speeds.items()),
        {
            "loader_train_vs_published": ratio("train, published order", "train, cached"),
            "loader_eval_vs_published": ratio("eval, published order", "eval, cached"),
            "loader_train_vs_published_without_cache": ratio("train, published order", "train"),
            "loader_eval_vs_published_without_cache": ratio("eval, published order", "eval"),
        },
        {"images": len(paths), "side": arguments.img_size, "pictures": arguments.images or "noise"},
        arguments.json,
    )


def write_pictures(folder: Path, number: int) -> Path:
    """Smooth coloured noise of the size of web photographs, so that decoding costs as much."""
    import numpy as np
    from PIL import Image

    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(number):
        small = random.integers(0, 256, (94, 125, 3), dtype=np.uint8)
        large = Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC)
        large.save(folder / f"{index:05}.jpg", quality=90)
    return folder


def one_core(paths: Sequence[str], cache, arguments: Namespace) -> dict[str, Callable[[], object]]:
    """The steps of the way, each over all pictures."""
    import numpy as np
    from torchvision.transforms import functional

    from lib.data.dataset import SampleKey, training_view
    from lib.data.pictures import read_image
    from lib.data.transforms import resize, to_pixels, train_transform

    size = arguments.img_size
    decoded = [read_image(path) for path in paths]
    resized = [resize(image, size) for image in decoded]
    keys = [SampleKey(0, row) for row in range(len(paths))]
    normal = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}

    def view(image, key, train: bool):
        if train:
            return training_view(image, key, size=size, augment="published", seed=0)
        return resize(image, size)

    def published(train: bool) -> None:
        """Floats, normalised image by image on the processor."""
        for path, key in zip(paths, keys, strict=True):
            functional.normalize(functional.to_tensor(view(read_image(path), key, train)), **normal)

    def ours(train: bool) -> None:
        for path, key in zip(paths, keys, strict=True):
            to_pixels(view(read_image(path), key, train))

    def cached(train: bool) -> None:
        for key in keys:
            to_pixels(view(cache.image(key.row), key, train))

    return {
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


def repeated(paths: Sequence[str], workers: int) -> list[str]:
    """`paths` again and again, so that every worker has its batches."""
    number = workers * BATCHES * BATCH_SIZE
    return [paths[row % len(paths)] for row in range(number)]


class RepeatedCache:
    """The images of a cache, again and again."""

    def __init__(self, cache, length: int) -> None:
        self.cache, self.length = cache, length

    def image(self, row: int):
        return self.cache.image(row % self.length)


def loaders(paths: Sequence[str], cache, arguments: Namespace, workers: int):
    """An epoch of the loader of a training, without the cache and with it."""
    from functools import partial

    import numpy as np
    import torch

    from lib.data.dataset import ImageDataset, training_view
    from lib.data.folder import Split
    from lib.data.loader import TrainingBatches
    from lib.data.workers import BatchLoader

    size, many = arguments.img_size, repeated(paths, workers)
    targets = np.zeros((len(many), 80), np.uint8)
    split = Split("train", many, targets, targets > 0)
    view = partial(training_view, size=size, augment="published", seed=0)
    for name, images in (("loader", None), ("loader, cached", RepeatedCache(cache, len(paths)))):
        batches = TrainingBatches(len(many), BATCH_SIZE, seed=0)
        loader = BatchLoader(
            ImageDataset(split, view, UPRIGHT, images),
            batches,
            workers=workers,
            device=torch.device("cpu"),
            persistent=True,
        )
        yield name, lambda loader=loader: [None for _ in loader]


if __name__ == "__main__":
    run_main(main)
