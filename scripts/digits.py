"""Compose the digits data set, data/digits/: scenes of real handwritten digits, with their boxes.

1 to 4 of scikit-learn's 1797 scans stand at random places, in random sizes and contrasts, on a
noisy background. Train and test scenes are made from different scans.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.cli import Parser, folder_path, non_negative_int, positive_int, run_main
from lib.common.errors import UserError, writing

LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TRAIN_SHARE = 0.8  # of the scans
TRIES = 50  # of a place for a scan


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--save-dir", type=folder_path, default="data/digits", help="where to write (%(default)s)"
    )
    for flag, kind, default, text in (
        ("--train", positive_int, 2000, "train scenes"),
        ("--test", positive_int, 500, "test scenes"),
        ("--size", positive_int, 128, "side in pixels, 32 to 4096"),
        ("--seed", non_negative_int, 0, "of all that is drawn"),
    ):
        parser.add_argument(flag, type=kind, default=default, help=f"{text} (%(default)s)")
    arguments = parser.parse_args()
    if not 32 <= arguments.size <= 4096:
        raise UserError(f"--size {arguments.size}: must be between 32 and 4096")
    counts = {"train": arguments.train, "test": arguments.test}
    write_digits(arguments.save_dir, counts, arguments.size, arguments.seed)


def write_digits(folder: Path, counts: dict[str, int], size: int, seed: int) -> None:
    """Write the data folder: `counts` scenes per split, each `size` pixels a side."""
    import numpy as np
    from sklearn.datasets import load_digits

    from lib.common.console import print_line, progress_bar
    from lib.common.files import staged_folder, write_json, write_text

    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.images))
    boundary = int(len(order) * TRAIN_SHARE)
    pools = {"train": order[:boundary], "test": order[boundary:]}
    boxes = {}
    with staged_folder(folder) as stage:
        for number, (split, count) in enumerate(counts.items()):
            with writing(folder):
                (stage / "images" / split).mkdir(parents=True)
            lines = []
            for index in progress_bar(range(count), f"{split} scenes", "scene"):
                random = np.random.default_rng((seed, number, index))
                scans = random.choice(pools[split], size=random.integers(1, 5), replace=False)
                scene, objects = compose_scene(
                    random, digits.images[scans], digits.target[scans], size
                )
                file = f"images/{split}/{index:05d}.jpg"
                with writing(folder / file):
                    scene.save(stage / file, quality=92)
                path = (folder / file).as_posix()
                present = {found["label"] for found in objects}
                names = ",".join(label for label in LABELS if label in present)
                lines.append(f"{path}\t{names}\n")
                boxes[path] = objects
            write_text(stage / f"{split}.txt", "".join(lines))
        write_text(stage / "label.txt", "\n".join(LABELS) + "\n")
        write_json(stage / "boxes.json", boxes)
    print_line(f"{folder}: {counts['train']} train and {counts['test']} test scenes, 10 labels")


def compose_scene(random, scans, digits, size: int):
    """Place `scans` (K, 8, 8), values 0..16, that show `digits` (K,) in one RGB scene.

    Gives the Pillow image and its objects `{label, box, difficult}`. A scan that finds no free
    place is left out; the first always finds one.
    """
    import numpy as np
    from PIL import Image

    pixels = random.uniform(20, 40) + random.normal(0, 8, (size, size, 3))
    objects: list[dict] = []
    for scan, digit in zip(scans, digits, strict=True):
        side = int(random.uniform(0.32, 0.46) * size)
        ink = Image.fromarray((scan / 16).astype(np.float32))
        ink = np.clip(np.asarray(ink.resize((side, side), Image.Resampling.BICUBIC)), 0, 1)
        place = _free_place(random, side, size, [found["box"] for found in objects])
        if place is None:
            continue
        x, y = place
        contrast = random.uniform(170, 220)
        pixels[y : y + side, x : x + side] += contrast * ink[..., None]
        rows, columns = np.nonzero(ink > 0.2)
        box = [x + columns.min(), y + rows.min(), x + columns.max() + 1, y + rows.max() + 1]
        box = [int(edge) for edge in box]
        objects.append({"label": LABELS[digit], "box": box, "difficult": False})
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), objects


def _free_place(random, side: int, size: int, taken):
    """Left and top of a square that overlaps none of the boxes, None where it finds none."""
    for _ in range(TRIES):
        x, y = random.integers(0, size - side + 1, 2).tolist()
        if all(
            x + side <= left or right <= x or y + side <= top or bottom <= y
            for left, top, right, bottom in taken
        ):
            return x, y
    return None


if __name__ == "__main__":
    run_main(main)
