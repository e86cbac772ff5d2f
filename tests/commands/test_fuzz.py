"""Thousands of damaged and hostile files: always a good result or a `UserError`, and in time.

`FUZZ_SEED` chooses other cases. A quick share runs with the fast tests, the rest with `-m slow`.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

from lib.config import Config
from lib.data.boxes import read_boxes
from lib.data.folder import DataFolder
from lib.experiment.loading import load_experiment
from lib.runtime.world import World
from lib.scoring.localization import Localization
from lib.training import resume
from lib.training.prepare import prepare
from tests.helpers.annotations import coco, picture, write
from tests.helpers.commands import ROOT, RUN, TRAIN, error_line
from tests.helpers.damage import mutated_bytes, mutated_json, mutated_value, settles, time_limit

SEED = int(os.environ.get("FUZZ_SEED", "0"))


def cases(fast: int, slow: int):
    """A test's parameter `count`, the number of its cases."""
    counts = [fast, pytest.param(slow, marks=pytest.mark.slow)]
    return pytest.mark.parametrize("count", [one for one in counts if one])


def fuzz(count: int, case: Callable[[Random], object]) -> None:
    """Run `case(random)` `count` times, each with other random numbers."""
    for number in range(count):
        try:
            case(Random(f"{SEED} {count} {number}"))
        except BaseException as error:
            error.add_note(f"case {number} of FUZZ_SEED={SEED}")
            raise


def mutate(file: Path, whole: bytes, random: Random) -> None:
    file.write_bytes((mutated_json if file.suffix == ".json" else mutated_bytes)(whole, random))


def settled(here, command: str) -> None:
    """Run a command, which must succeed or end with a line of some length."""
    with time_limit():
        result = here.run(command)
    assert result.code == 0 or len(error_line(result)) < 3000


def read_data_folder() -> None:
    data = DataFolder.open("colors")
    for name in ("train", "val", "test"):
        split = data.split(name)
    boxes, maps = read_boxes(data.path), {"evidence": torch.rand(*split.shape, 4)}
    heatmaps = Localization(split, data.labels, boxes, (2, 2), "upright", [*maps])
    heatmaps.measure(np.arange(len(split)), maps)
    heatmaps.results(split.dense()[1])


FILES = ["train.txt", "test.txt", "label.txt", "boxes.json", "ignore.npy", "bert.npy", "bert.json"]


@pytest.mark.parametrize("name", FILES)
@cases(fast=6, slow=150)
def test_files_of_a_data_folder(here, name, count):
    data = Path("data/colors")
    np.save(data / "ignore.npy", np.zeros((6, 3), np.uint8))
    np.save(data / "bert.npy", np.ones((3, 768), np.float32))
    write(data / "bert.json", {"labels_sha256": "x", "model": "m"})
    boxes = [{"label": "red", "box": [1, 2, 30, 40.5], "difficult": False}]
    write(data / "boxes.json", {f"{data}/images/test{number}.png": boxes for number in range(6)})
    whole = (data / name).read_bytes()

    def case(random):
        mutate(data / name, whole, random)
        if name.startswith("bert"):
            settles(lambda: DataFolder.open("colors").label_embeddings("bert"))
        else:
            settles(read_data_folder)

    fuzz(count, case)


@cases(fast=15, slow=300)
def test_configs(tmp_path, count):
    wholes = [
        (ROOT / "tests" / "golden" / "published_config.yaml").read_bytes(),
        Config(lr=9e-5, data="a: b", cache="it's").to_yaml().encode(),
    ]
    file = tmp_path / "config.yaml"

    def case(random):
        mutate(file, random.choice(wholes), random)
        settles(lambda: Config.load(file))
        settles(lambda: resume.planned_config({"resume": str(tmp_path), "workers": 3}))

    fuzz(count, case)


VOC = """<?xml version="1.0" encoding="UTF-8"?><annotation><filename>a.jpg</filename>
<object><name>red</name><difficult>0</difficult>
<bndbox><xmin>1</xmin><ymin>2.5</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object></annotation>
"""
CVAT = """<annotations><version>1.1</version><image id="0" name="a.jpg" width="40" height="50">
<box label="red" xtl="1" ytl="2" xbr="3" ybr="4.5"/><polygon label="blue" points="1,2;3,4;5,6"/>
<tag label="green"/></image><image id="1" name="b.jpg" subset="Train"/></annotations>"""
RECTANGLE = {"x": 1, "y": 2.5, "width": 3, "height": 4, "rectanglelabels": ["red"]}
REGIONS = [
    {"result": [{"type": "rectanglelabels", "value": RECTANGLE, "original_width": 40}]},
    {"result": [{"type": "choices", "value": {"choices": ["blue"]}}]},
]
LABEL_STUDIO = [
    {"data": {"image": "/data/upload/1/a.jpg"}, "annotations": REGIONS},
    {"image": "b.jpg", "choice": {"choices": ["red"]}, "box": [RECTANGLE]},
]
SOURCES = {
    "a.csv": 'path,labels,split\na.jpg,red;blue,train\nb.jpg,"red,?blue",train\nc.jpg,,val\n',
    "hot.csv": "filename, red, blue, age\na.jpg, 1, 0, 33\nb.jpg, -1, 1, 4\nc.jpg, , u, 5\n",
    "objects.csv": "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,40,50,red,1,2,3,4\n"
    "a.jpg,40,50,blue,1,2.5,30,40\nb.jpg,40,50,red,0,0,40,50\n",
    "open.csv": "ImageID,Source,LabelName,Confidence\na,x,/m/1,1\na,x,/m/2,0\nb,x,/m/2,1\n",
    "a.json": coco(),
    "studio.json": LABEL_STUDIO,
    "one/labels.json": {"classes": ["red"], "labels": {"a": 0, "b": [0], "c": {"label": "red"}}},
    "voc/a.xml": VOC,
    "cvat.xml": CVAT,
    "folder/metadata.jsonl": '{"file_name": "a.jpg", "labels": ["red", "?blue"]}\n{"file_name": '
    '"b.jpg", "objects": {"bbox": [[1, 2, 3, 4]], "categories": ["red"]}}\n',
    "yolo/data.yaml": "path: .\ntrain: ../yolo\nval: []\nnames: {0: red, 1: green}\n",
    "map.txt": "red,blue\nblue,\n",
    "names.txt": "red\nblue\n",
}
FLAGS = {"map.txt": "--map", "names.txt": "--label-names"}


@pytest.mark.parametrize("name", SOURCES)
@cases(fast=6, slow=200)
def test_annotations(commands, tmp_path, monkeypatch, name, count):
    """The script itself; images that are missing are left out."""
    monkeypatch.chdir(tmp_path)
    file = Path("in", name)
    for folder in {Path(), file.parent, file.parent / "data"}:
        for number, letter in enumerate("abc"):
            picture(folder / f"{letter}.jpg", number)
    train = file if file.parent == Path("in") else file.parent
    if name in FLAGS:
        write("own.csv", "path,labels\na.jpg,red;0\nb.jpg,blue\nc.jpg,1\n")
        train = f"own.csv --allow numbers {FLAGS[name]} {file}"
    if name == "voc/a.xml":
        for other in "bc":
            write(file.with_name(f"{other}.xml"), VOC.replace("a.jpg", other))
    write(file.with_name("a.txt"), "1 0.5 0.5 0.5 0.5\n")  # of YOLO
    command = f"scripts/custom.py --name out --skip-missing --test-share 0.5 --train {train}"
    write(file, SOURCES[name])
    whole = file.read_bytes()
    commands(command)
    before = {*Path().iterdir()}

    def case(random):
        mutate(file, whole, random)
        settled(commands, command)

    fuzz(count, case)
    assert {*Path().iterdir()} == before and [*Path("data").glob("[!abc]*")] == [Path("data/out")]


def official_nuswide() -> None:
    for letter in "ab":
        picture(f"in/Flickr/x/{letter}.png")
    write("in/Concepts81.txt", "red\nblue\n")
    for name, letters in (("Imagelist", "ab"), ("TrainImagelist", "a"), ("TestImagelist", "b")):
        write(f"in/ImageList/{name}.txt", "".join(f"x\\{one}.png\r\n" for one in letters))
    for label in ("red", "blue"):
        write(f"in/Groundtruth/AllLabels/Labels_{label}.txt", "1\n1\n")


def official_vg500() -> None:
    thing = {"names": ["Red"], "x": 1, "y": 2, "w": 3, "h": 4}
    write("in/objects.json", [{"image_id": number, "objects": [thing]} for number in (1, 2)])
    for number, name in ((1, "train"), (2, "test")):
        picture(f"in/VG_100K/{number}.jpg")
        write(f"in/ssgrl_partition/{name}_list_500.txt", f"{number}.jpg\n")
    index = {"1.jpg": [0, 499], "2.jpg": [1]}
    write("in/ssgrl_partition/vg_category_500_labels_index.json", index)
    Path("in/VG_100K_2").mkdir()


@pytest.mark.parametrize("script, make", [("nuswide", official_nuswide), ("vg500", official_vg500)])
@cases(fast=6, slow=120)
def test_official_files(commands, tmp_path, monkeypatch, script, make, count):
    monkeypatch.chdir(tmp_path)
    make()
    files = sorted(file for end in ("txt", "json") for file in Path("in").rglob(f"*.{end}"))
    wholes = {file: file.read_bytes() for file in files}
    command = f"scripts/{script}.py --data-dir in --save-dir out --skip-missing"
    commands(command)

    def case(random):
        file = random.choice(files)
        mutate(file, wholes[file], random)
        settled(commands, command)
        file.write_bytes(wholes[file])

    fuzz(count, case)
    assert {*Path().iterdir()} == {Path("in"), Path("out")}


def with_changes(content: dict, part: dict, random: Random):
    """`content` with other values in some of its `part`; at times something else altogether."""
    changed = mutated_value(part, random)
    return {**content, **changed} if isinstance(changed, dict) else changed


@cases(fast=12, slow=250)
def test_checkpoints(home, count):
    """Other values and tensors, and other bytes; what loads is evaluated."""
    file = Path(RUN, "checkpoints", "best_ema_model.pth")
    whole, content = file.read_bytes(), torch.load(file, weights_only=True)
    parts = ({"config": content["config"]}, {"labels": content["labels"]}, content)

    def case(random):
        kind = random.randrange(4)
        if kind == 3:
            mutate(file, whole, random)
        else:
            torch.save(with_changes(content, parts[kind], random), file)
        settles(lambda: load_experiment(RUN))

    fuzz(count, case)


@cases(fast=2, slow=60)
def test_states_of_runs(home, count):
    """Other bytes: the run resumes from the state before, which is intact."""
    last, previous = (Path(RUN, "checkpoints", f"{name}.pth") for name in ("last", "last.prev"))
    whole = last.read_bytes()

    def case(random):
        mutate(last, whole, random)
        previous.write_bytes(whole)
        planned = resume.planned_config({"resume": RUN, "max_epochs": 3})
        run = prepare(planned, World(torch.device("cpu")))
        run.experiment._lock.close()
        assert run.state.epoch == 2

    fuzz(count, case)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["evaluate.py", "infer.py", TRAIN])
def test_a_sample_through_the_command_line(home, command):
    names = ("test.txt", "train.txt", "label.txt", "images/test1.png", "images/train1.png")
    files = [Path(RUN, "config.yaml"), *(Path("data/colors", name) for name in names)]
    wholes = {file: file.read_bytes() for file in files}
    if command == TRAIN:
        command += " --max-epochs 1"
    else:
        command += f" --workers 0 --exp-dir {RUN}"

    def case(random):
        file = random.choice(files)
        mutate(file, wholes[file], random)
        settled(home, f"{command} --batch-size 4")
        file.write_bytes(wholes[file])
        shutil.rmtree("experiments/mlic_colors/exp2", ignore_errors=True)

    fuzz(25, case)
