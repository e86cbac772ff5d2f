"""How memory and time grow with images and labels: synthetic lists, 20 labels an image by Zipf's
law, without images. Each row is measured in a process of its own.
"""

import json
import os
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.cli import Parser, positive_int, run_main

SIZES = ("10000x80", "100000x1000", "1000000x6000")
LABELS_AN_IMAGE, DRAWS = 20, 100
BATCH_SIZE = 64  # as train.py
MEGABYTE = 1e6


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for the synthetic data")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), metavar="IMAGESxLABELS")
    parser.add_argument("--workers", type=positive_int, default=4)
    parser.add_argument("--limit", type=positive_int, default=200_000, help="images of an epoch")
    parser.add_argument("--json", type=Path, help="write the results here too")
    parser.add_argument("--measure", nargs=2, help="measure this row at this size, in this process")
    arguments = parser.parse_args()
    if arguments.measure:
        row, size = arguments.measure
        print(json.dumps(ROWS[row](arguments, *map(int, size.split("x")))))
        return

    from benchmarks.measure import report

    rows = []
    for size in arguments.sizes:
        for row in arguments.rows:
            for name, value, unit in _in_own_process(row, size):
                rows.append((size, name, value, unit))
    report("images x labels", ("size", "what", "value", "unit"), rows, {}, {}, arguments.json)


def _in_own_process(row: str, size: str) -> list[tuple[str, float, str]]:
    command = [sys.executable, __file__, *sys.argv[1:], "--measure", row, size]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


def make_lists(work: Path, images: int, labels: int) -> str:
    """The data folder of synthetic lists; gives its path."""
    import numpy as np

    folder = work / f"{images}x{labels}"
    if (folder / "train.txt").exists():
        return str(folder)
    folder.mkdir(parents=True)
    names = [f"tag_{rank:05}" for rank in range(labels)]
    (folder / "label.txt").write_text("\n".join(names) + "\n")
    random = np.random.default_rng(0)
    chances = 1 / np.arange(1, labels + 1)
    limits = np.cumsum(chances / chances.sum())
    with open(folder / "unfinished.txt", "w") as file:
        for start in range(0, images, 10_000):
            rows = range(start, min(start + 10_000, images))
            drawn = np.searchsorted(limits[:-1], random.random((len(rows), DRAWS))).tolist()
            for row, columns in zip(rows, drawn, strict=True):
                chosen = sorted(list(dict.fromkeys(columns))[:LABELS_AN_IMAGE])
                tags = ",".join(names[column] for column in chosen)
                file.write(f"{work}/images/{row // 1000:05}/{row:08}.jpg\t{tags}\n")
    os.replace(folder / "unfinished.txt", folder / "train.txt")
    return str(folder)


def first_time(arguments: Namespace, images: int, labels: int) -> list[tuple[str, float, str]]:
    """`again`, without what was kept of the list before."""
    for kept in Path(make_lists(arguments.work, images, labels)).glob(".*.parsed"):
        kept.unlink()
    return [(f"{what}, first time", *rest) for what, *rest in again(arguments, images, labels)]


def again(arguments: Namespace, images: int, labels: int) -> list[tuple[str, float, str]]:
    """Opening a split and hashing it, and the memory that it takes."""
    import torch  # noqa: F401

    split, before, seconds = _open(make_lists(arguments.work, images, labels))
    start = time.perf_counter()
    split.digest  # noqa: B018
    return [
        ("open", seconds, "s"),
        ("digest", time.perf_counter() - start, "s"),
        ("memory", memory([os.getpid()]) - before, "MB"),
    ]


def epoch(arguments: Namespace, images: int, labels: int) -> list[tuple[str, float, str]]:
    """An epoch of the training loader with worker processes, of a dataset that reads no images."""
    import torch

    from lib.data.bad_images import BadImages
    from lib.data.dataset import ImageDataset
    from lib.data.loader import TrainingBatches, TrainingLoader
    from lib.runtime.world import World

    class NoImages(ImageDataset):
        def read(self, key):
            return self.blank()

    split, before, seconds = _open(make_lists(arguments.work, images, labels))
    batches = TrainingBatches(len(split), BATCH_SIZE, seed=0, limit=arguments.limit)
    loader = TrainingLoader(
        NoImages(split, 8, "upright"),
        batches,
        workers=arguments.workers,
        world=World(torch.device("cpu")),
        bad_images=BadImages(),
    )
    start = time.perf_counter()
    shards = loader.shards(0)
    next(shards)
    first, count = time.perf_counter() - start, BATCH_SIZE
    for shard in shards:
        count += len(shard.batch.rows)
    speed = count / (time.perf_counter() - start)
    return [
        ("first batch after the start of the loader", first, "s"),
        (f"images an epoch, {arguments.workers} workers, without reading", speed, "1/s"),
        ("memory of all processes after an epoch", memory(processes()) - before, "MB"),
    ]


def _open(name: str) -> tuple[Any, float, float]:
    """The split of a data folder, the memory of this process before, and its seconds."""
    from lib.data import folder

    folder.missing_images = lambda paths: []  # there are none
    before, start = memory([os.getpid()]), time.perf_counter()
    split = folder.DataFolder.open(name).split("train")
    split.require_known()
    return split, before, time.perf_counter() - start


def check(arguments: Namespace, images: int, labels: int) -> list[tuple[str, float, str]]:
    """The check that all images of a split exist, with empty files for images."""
    from lib.data import folder

    root = arguments.work / "images"
    for row in range(images):
        file = root / f"{row // 1000:05}" / f"{row:08}.jpg"
        if row % 1000 == 0:
            file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    split = folder.DataFolder.open(make_lists(arguments.work, images, labels)).split("train")
    start = time.perf_counter()
    assert not folder.missing_images(split.paths)
    return [("check of all images", time.perf_counter() - start, "s")]


def memory(ids: Sequence[int]) -> float:
    """Megabytes of processes, with what they have in common counted once."""
    total = 0
    for one in ids:
        lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * 1024 / MEGABYTE


def processes() -> list[int]:
    """This process and its children."""
    task = Path(f"/proc/self/task/{os.getpid()}/children")
    return [os.getpid(), *map(int, task.read_text().split())]


ROWS = {"first": first_time, "again": again, "epoch": epoch, "check": check}


if __name__ == "__main__":
    run_main(main)
