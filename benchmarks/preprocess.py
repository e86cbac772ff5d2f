"""Full-size runs of the preprocessing scripts on generated files of the official form: time and
peak memory of each. Needs about 3 GB of disk below --work-dir; picture files are empty.
"""

import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.common.cli import Parser, folder_path, run_main

ROOT = Path(__file__).resolve().parents[1]
COCO = {"train2014": (82783, 604907), "val2014": (40504, 291875)}  # images, annotations
VG_IMAGES = {"train": 98249, "test": 10000}
VG_OBJECTS = 35  # an image
NUS_IMAGES, NUS_TRAIN, NUS_LABELS = 269648, 161789, 81


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("scripts", nargs="*", help="mscoco, nuswide, vg500 (default: all)")
    parser.add_argument(
        "--work-dir", type=folder_path, help="where to generate (default: temporary)"
    )
    arguments = parser.parse_args()
    makers: dict[str, Callable[[Path], None]] = {
        "mscoco": make_coco,
        "nuswide": make_nuswide,
        "vg500": make_vg,
    }
    work = arguments.work_dir or Path(tempfile.mkdtemp(prefix="preprocess-"))
    print("| script | seconds | peak MiB | wrote MiB |")
    print("|---|---|---|---|")
    for name in arguments.scripts or makers:
        random.seed(0)
        source = work / name
        makers[name](source)
        start = time.perf_counter()
        command = [sys.executable, ROOT / "scripts" / f"{name}.py", "--data-dir", source]
        subprocess.run(
            [*command, "--save-dir", work / "data" / name],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024  # largest so far
        size = sum(file.stat().st_size for file in (work / "data" / name).iterdir()) / 2**20
        print(f"| {name} | {seconds:.1f} | {peak:.0f} | {size:.0f} |", flush=True)
        shutil.rmtree(source)
    shutil.rmtree(work)


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def make_coco(source: Path) -> None:
    """Instances files of the real numbers, with segmentations of the real length."""
    categories = [{"id": n + 1, "name": f"thing {n}", "supercategory": "x"} for n in range(80)]
    (source / "annotations").mkdir(parents=True)
    for split, (num_images, num_annotations) in COCO.items():
        images = [
            {"id": n, "file_name": f"COCO_{split}_{n:012d}.jpg", "height": 480, "width": 640}
            for n in range(num_images)
        ]
        for image in images:
            touch(source / split / image["file_name"])
        outline = [round(random.random() * 640, 2) for _ in range(60)]
        with open(source / "annotations" / f"instances_{split}.json", "w") as file:
            head = json.dumps({"info": {}, "images": images, "categories": categories})
            file.write(head[:-1] + ', "annotations": [')
            for number in range(num_annotations):
                annotation = {
                    "segmentation": [outline],
                    "area": 702.1,
                    "iscrowd": 0,
                    "image_id": random.randrange(num_images),
                    "bbox": [473.07, 395.93, 38.65, 28.67],
                    "category_id": random.randrange(80) + 1,
                    "id": number,
                }
                file.write(("," if number else "") + json.dumps(annotation))
            file.write("]}")


def make_nuswide(source: Path) -> None:
    """Lists and 81 label columns of 269,648 lines."""
    images = [f"folder{n % 700}\\{n:06d}.jpg" for n in range(NUS_IMAGES)]
    for image in images:
        touch(source / "Flickr" / image.replace("\\", "/"))
    labels = [f"label{n}" for n in range(NUS_LABELS)]
    parts = {"Imagelist": images, "TrainImagelist": images[:NUS_TRAIN]}
    parts["TestImagelist"] = images[NUS_TRAIN:]
    (source / "ImageList").mkdir()
    for name, listed in parts.items():
        (source / "ImageList" / f"{name}.txt").write_text(" \r\n".join(listed) + " \r\n")
    (source / "Concepts81.txt").write_text("\n".join(labels) + "\n")
    (source / "Groundtruth" / "AllLabels").mkdir(parents=True)
    for label in labels:
        column = "".join("1\n" if random.random() < 0.023 else "0\n" for _ in images)
        (source / "Groundtruth" / "AllLabels" / f"Labels_{label}.txt").write_text(column)


def make_vg(source: Path) -> None:
    """Lists, label index, and an objects.json with 35 objects an image, of 80,000 names."""
    partition = source / "ssgrl_partition"
    partition.mkdir(parents=True)
    names = [f"object name {n}" for n in range(80000)]
    index, first = {}, 1
    with open(source / "objects.json", "w") as file:
        file.write("[")
        for split, count in VG_IMAGES.items():
            images = [f"{n}.jpg" for n in range(first, first + count)]
            (partition / f"{split}_list_500.txt").write_text("\n".join(images) + "\n")
            for number, image in enumerate(images, first):
                touch(source / ("VG_100K" if number % 2 else "VG_100K_2") / image)
                index[image] = random.sample(range(500), 14)
                spread = [n for n in index[image] if random.random() < 0.8]
                others = range(VG_OBJECTS - len(spread))
                spread += [500 + int(79500 * random.random() ** 6) for _ in others]
                objects = [
                    {
                        "synsets": ["thing.n.01"],
                        "h": 557,
                        "object_id": 1058549,
                        "merged_object_ids": [],
                        "names": [names[n]],
                        "w": 799,
                        "y": 0,
                        "x": 0,
                    }
                    for n in spread
                ]
                record = {"image_id": number, "objects": objects, "image_url": "https://x/1.jpg"}
                file.write(("," if number > 1 else "") + json.dumps(record))
            first += count
        file.write("]")
    (partition / "vg_category_500_labels_index.json").write_text(json.dumps(index))


if __name__ == "__main__":
    run_main(main)
