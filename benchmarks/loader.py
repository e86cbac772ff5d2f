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
    from PIL import Image
    from torchvision.transforms import functional

    from lib.data.augment import published_augmentation, resize
    from lib.data.dataset import read_image, to_pixels

    size = arguments.img_size
    decoded = [read_image(path) for path in paths]
    resized = [resize(image, size) for image in decoded]
    normal = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}

    def augmented(image, row: int):
        return published_augmentation(image, np.random.default_rng((0, 0, row)))

    def read(row: int, train: bool, cached: bool = False):
        if cached:
            image = Image.fromarray(cache.row(row))
        else:
            image = resize(read_image(paths[row]), size)
        return augmented(image, row) if train else image

    def published(train: bool) -> None:
        """Floats, normalised image by image on the processor."""
        for row in range(len(paths)):
            functional.normalize(functional.to_tensor(read(row, train)), **normal)

    def ours(train: bool, cached: bool = False) -> None:
        for row in range(len(paths)):
            to_pixels(read(row, train, cached))

    return {
        "decode": lambda: [read_image(path) for path in paths],
        "resize": lambda: [resize(image, size) for image in decoded],
        "random policy": lambda: [augmented(image, row) for row, image in enumerate(resized)],
        "to uint8 pixels": lambda: [to_pixels(image) for image in resized],
        "train, published order": lambda: published(True),
        "train": lambda: ours(True),
        "train, cached": lambda: ours(True, cached=True),
        "eval, published order": lambda: published(False),
        "eval": lambda: ours(False),
        "eval, cached": lambda: ours(False, cached=True),
    }


def repeated(paths: Sequence[str], workers: int) -> list[str]:
    """`paths` again and again, so that every worker has its batches."""
    number = workers * BATCHES * BATCH_SIZE
    return [paths[row % len(paths)] for row in range(number)]


def loaders(paths: Sequence[str], cache, arguments: Namespace, workers: int):
    """An epoch of the loader of a training, without the cache and with it."""
    import numpy as np
    import torch

    from lib.data.dataset import ImageDataset
    from lib.data.loader import TrainingBatches
    from lib.data.split import Split
    from lib.data.workers import BatchLoader

    size, many = arguments.img_size, repeated(paths, workers)
    targets = np.zeros((len(many), 80), np.uint8)
    split = Split.from_dense("train", many, targets, targets > 0)

    def cached_row(row: int):
        return cache.row(row % len(paths))

    for name, rows in (("loader", None), ("loader, cached", cached_row)):
        batches = TrainingBatches(len(many), BATCH_SIZE, seed=0)
        loader = BatchLoader(
            ImageDataset(split, size, UPRIGHT, augment="published", cached_row=rows),
            batches,
            workers=workers,
            device=torch.device("cpu"),
            persistent=True,
        )
        yield name, lambda loader=loader: [None for _ in loader]


if __name__ == "__main__":
    run_main(main)
