"""Thousands of damaged and hostile files: always a good result or a `UserError`, and in time.

`FUZZ_SEED` chooses other cases. A quick share runs with the fast tests, the rest with `-m slow`.
"""

import json
import os
import shutil
import sys
from random import Random

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from PIL import Image

from lib.config import Config
from lib.data.boxes import read_boxes
from lib.data.folder import DataFolder
from lib.experiment.loading import load_experiment
from lib.runtime.world import World
from lib.scoring.localization import Localization
from lib.training import resume
from tests.helpers.commands import ROOT, TINY, error_line, make_data, run_here
from tests.helpers.fuzzing import (
    mutated_bytes,
    mutated_json,
    mutated_value,
    settles,
    time_limit,
)

CPU = torch.device("cpu")
SEED = int(os.environ.get("FUZZ_SEED", "0"))
TRAIN = (
    "train.py",
    *TINY,
    *"--data colors --batch-size 4 --max-epochs 1 --lr-scheduler StepLR".split(),
)
EXPERIMENT = "experiments/mlic_colors/exp1"


def cases(fast: int, slow: int):
    """A test's parameter `count`, and what runs its cases."""
    counts = [fast, pytest.param(slow, marks=pytest.mark.slow)]
    return pytest.mark.parametrize("count", [one for one in counts if one])


def fuzz(count: int, case) -> None:
    """Run `case(random)` `count` times, each with other random numbers."""

    @hypothesis.seed(SEED * 1000 + count)
    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
        report_multiple_bugs=False,
    )
    @hypothesis.given(st.integers(0, 2**62))
    def one(number: int) -> None:
        case(Random(number))

    one()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = make_data(tmp_path)
    np.save(data / "ignore.npy", np.zeros((6, 3), np.uint8))
    np.save(data / "bert.npy", np.ones((3, 768), np.float32))
    (data / "bert.json").write_text(json.dumps({"labels_sha256": "x", "model": "m"}))
    boxes = [{"label": "red", "box": [1, 2, 30, 40.5], "difficult": False}]
    names = [f"data/colors/images/test{number}.png" for number in range(6)]
    (data / "boxes.json").write_text(json.dumps({name: boxes for name in names}))
    return tmp_path


def read_data_folder() -> None:
    data = DataFolder.open("colors")
    for name in ("train", "val", "test"):
        split = data.split(name)
    heatmaps = Localization(
        split, data.labels, read_boxes(data.path), (2, 2), "upright", ["evidence"]
    )
    heatmaps.measure(np.arange(len(split)), {"evidence": torch.rand(*split.shape, 4)})
    heatmaps.results(split.dense()[1])


FILES = ["train.txt", "test.txt", "label.txt", "boxes.json", "ignore.npy", "bert.npy", "bert.json"]


@pytest.mark.parametrize("name", FILES)
@cases(fast=6, slow=150)
def test_files_of_a_data_folder(here, name, count):
    file = here / "data" / "colors" / name
    whole = file.read_bytes()
    mutate = mutated_json if name.endswith(".json") else mutated_bytes

    def case(random):
        file.write_bytes(mutate(whole, random))
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
        file.write_bytes(mutated_bytes(random.choice(wholes), random))
        settles(lambda: Config.load(file))
        settles(lambda: resume.planned_config({"resume": str(tmp_path), "workers": 3}))

    fuzz(count, case)


VOC = b"""<?xml version="1.0" encoding="UTF-8"?><annotation><filename>a.png</filename>
<object><name>red</name><difficult>0</difficult>
<bndbox><xmin>1</xmin><ymin>2.5</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object></annotation>
"""
COCO = json.dumps(
    {
        "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],
        "categories": [{"id": 3, "name": "red"}, {"id": 4, "name": "blue"}],
        "annotations": [
            {"image_id": 1, "category_id": 3, "bbox": [1, 2.5, 3, 4], "iscrowd": 0},
            {"image_id": 2, "category_id": 4, "bbox": [1, 2, 3, 4], "iscrowd": 1},
        ],
    }
).encode()
TABLES = {
    "a.csv": b'path,labels,split\na.png,red;blue,train\nb.png,"red,?blue",train\nc.png,,val\n',
    "hot.csv": b"filename, red, blue, age\na.png, 1, 0, 33\nb.png, -1, 1, 4\nc.png, , u, 5\n",
    "objects.csv": b"filename,width,height,class,xmin,ymin,xmax,ymax\na.png,40,50,red,1,2,3,4\n"
    b"a.png,40,50,blue,1,2.5,30,40\nb.png,40,50,red,0,0,40,50\n",
    "open.csv": b"ImageID,Source,LabelName,Confidence\na,x,/m/1,1\na,x,/m/2,0\nb,x,/m/2,1\n",
}
JSONL = b"""{"file_name": "a.png", "labels": ["red", "?blue"]}
{"file_name": "b.png", "objects": {"bbox": [[1, 2, 3, 4]], "categories": ["red"]}}
"""
YOLO = b"path: .\ntrain: ../yolo\nval: []\nnames: {0: red, 1: green}\n"
CVAT = b"""<annotations><version>1.1</version><image id="0" name="a.png" width="40" height="50">
<box label="red" xtl="1" ytl="2" xbr="3" ybr="4.5"/><polygon label="blue" points="1,2;3,4;5,6"/>
<tag label="green"/></image><image id="1" name="b.png" subset="Train"/></annotations>"""
RECTANGLE = {"x": 1, "y": 2.5, "width": 3, "height": 4, "rectanglelabels": ["red"]}
LABEL_STUDIO = [
    {
        "data": {"image": "/data/upload/1/a.png"},
        "annotations": [
            {"result": [{"type": "rectanglelabels", "value": RECTANGLE, "original_width": 40}]},
            {"result": [{"type": "choices", "value": {"choices": ["blue"]}}]},
        ],
    },
    {"image": "b.png", "choice": {"choices": ["red"]}, "box": [RECTANGLE]},
]
FIFTYONE = {"classes": ["red", "blue"], "labels": {"a": 0, "b": [0, 1], "c": {"label": "red"}}}
SOURCES = TABLES | {
    "a.json": COCO,
    "studio.json": json.dumps(LABEL_STUDIO).encode(),
    "one/labels.json": json.dumps(FIFTYONE).encode(),
    "voc/a.xml": VOC,
    "cvat.xml": CVAT,
    "folder/metadata.jsonl": JSONL,
    "yolo/data.yaml": YOLO,
    "map.txt": b"red,blue\nblue,\n",
    "names.txt": b"red\nblue\n",
}


@pytest.mark.parametrize("name", SOURCES)
@cases(fast=6, slow=200)
def test_annotations(tmp_path, monkeypatch, capsys, name, count):
    """The script itself; pictures that are not there are left out."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "in" / name
    file.parent.mkdir(parents=True)
    for folder in {tmp_path, file.parent, file.parent / "data"}:
        folder.mkdir(exist_ok=True)
        for number, picture in enumerate("abc"):
            Image.new("RGB", (40, 50), (number, 0, 0)).save(folder / f"{picture}.png")
    mutate = mutated_json if name.endswith(".json") else mutated_bytes
    command = ["scripts/custom.py", "--name", "out", "--skip-missing", "--test-share", "0.5"]
    if name in ("map.txt", "names.txt"):
        (tmp_path / "own.csv").write_text("path,labels\na.png,red;0\nb.png,blue\nc.png,1\n")
        flags = ["--map", str(file)] if name == "map.txt" else ["--label-names", str(file)]
        command += ["--train", "own.csv", "--allow", "numbers", *flags]
    else:
        command += [
            "--train",
            str(file if len(file.parts) == len(tmp_path.parts) + 2 else file.parent),
        ]
    if name == "voc/a.xml":
        for other in "bc":
            file.with_name(f"{other}.xml").write_bytes(VOC.replace(b"a.png", other.encode()))
    file.with_name("a.txt").write_text("1 0.5 0.5 0.5 0.5\n")  # of YOLO

    def case(random):
        file.write_bytes(mutate(SOURCES[name], random))
        with time_limit():
            result = run_here(monkeypatch, capsys, *command)
        assert result.code in (0, 2)
        if result.code:
            assert len(error_line(result)) < 3000

    file.write_bytes(SOURCES[name])
    assert run_here(monkeypatch, capsys, *command).code == 0
    fuzz(count, case)
    outside = {path.name for path in tmp_path.iterdir()} - {"in", "data", "own.csv"}
    assert outside == {"a.png", "b.png", "c.png"}
    assert {path.name for path in (tmp_path / "data").iterdir()} <= {
        "out",
        "a.png",
        "b.png",
        "c.png",
    }


def official_nuswide(root) -> list[str]:
    for folder in ("Flickr/x", "Groundtruth/AllLabels", "ImageList"):
        (root / folder).mkdir(parents=True)
    for picture in "ab":
        Image.new("RGB", (4, 4)).save(root / "Flickr" / "x" / f"{picture}.png")
    (root / "Concepts81.txt").write_text("red\nblue\n")
    for name, lines in (("Imagelist", "ab"), ("TrainImagelist", "a"), ("TestImagelist", "b")):
        text = "".join(f"x\\{picture}.png\r\n" for picture in lines)
        (root / "ImageList" / f"{name}.txt").write_text(text)
    for label in ("red", "blue"):
        (root / "Groundtruth" / "AllLabels" / f"Labels_{label}.txt").write_text("1\n1\n")
    return ["Concepts81.txt", "ImageList/Imagelist.txt", "ImageList/TestImagelist.txt"] + [
        "Groundtruth/AllLabels/Labels_red.txt"
    ]


def official_vg500(root) -> list[str]:
    for folder in ("ssgrl_partition", "VG_100K", "VG_100K_2"):
        (root / folder).mkdir(parents=True)
    for number in (1, 2):
        Image.new("RGB", (4, 4)).save(root / "VG_100K" / f"{number}.jpg")
    partition = root / "ssgrl_partition"
    (partition / "train_list_500.txt").write_text("1.jpg\n")
    (partition / "test_list_500.txt").write_text("2.jpg\n")
    index = {"1.jpg": [0, 499], "2.jpg": [1]}
    (partition / "vg_category_500_labels_index.json").write_text(json.dumps(index))
    thing = {"names": ["Red"], "x": 1, "y": 2, "w": 3, "h": 4}
    records = [{"image_id": number, "objects": [thing]} for number in (1, 2)]
    (root / "objects.json").write_text(json.dumps(records))
    return ["objects.json", "ssgrl_partition/vg_category_500_labels_index.json"] + [
        "ssgrl_partition/train_list_500.txt"
    ]


@pytest.mark.parametrize("script, make", [("nuswide", official_nuswide), ("vg500", official_vg500)])
@cases(fast=6, slow=120)
def test_official_files(tmp_path, monkeypatch, capsys, script, make, count):
    """The scripts themselves: exit code 0 or 2."""
    monkeypatch.chdir(tmp_path)
    names = make(tmp_path / "in")
    wholes = {name: (tmp_path / "in" / name).read_bytes() for name in names}
    command = (f"scripts/{script}.py", "--data-dir", "in", "--save-dir", "out", "--skip-missing")
    assert run_here(monkeypatch, capsys, *command).code == 0

    def case(random):
        name = random.choice(names)
        mutate = mutated_json if name.endswith(".json") else mutated_bytes
        (tmp_path / "in" / name).write_bytes(mutate(wholes[name], random))
        result = run_here(monkeypatch, capsys, *command)
        (tmp_path / "in" / name).write_bytes(wholes[name])
        if result.code:
            assert len(error_line(result)) < 3000

    fuzz(count, case)
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    make_data(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["train.py", *TRAIN[1:]])
        from lib.training.fit import fit
        from lib.training.prepare import prepare

        fit(prepare(Config.parse(TRAIN[1:]), World(CPU)))
    return folder


@pytest.fixture
def run_folder(trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / EXPERIMENT


@cases(fast=12, slow=250)
def test_checkpoints(run_folder, count):
    """Other values and tensors, and other bytes; what loads is evaluated."""
    file = run_folder / "checkpoints" / "best_ema_model.pth"
    whole, content = file.read_bytes(), torch.load(file, weights_only=True)
    config = {name: content["config"][name] for name in content["config"]}

    def load() -> None:
        load_experiment(run_folder)

    def case(random):
        kind = random.randrange(4)
        if kind == 0:
            file.write_bytes(mutated_bytes(whole, random))
        else:
            parts = ({"config": config}, {"labels": content["labels"]}, content)[kind - 1]
            changed = mutated_value(parts, random)
            changed = {**content, **changed} if isinstance(changed, dict) else changed
            torch.save(changed, file)
        settles(load)

    assert settles(load) is None
    fuzz(count, case)


@cases(fast=2, slow=60)
def test_states_of_runs(run_folder, count):
    from lib.training.fit import fit
    from lib.training.prepare import prepare

    file = run_folder / "checkpoints" / "last.pth"
    file.with_name("last.prev.pth").unlink(missing_ok=True)
    whole = torch.load(file, weights_only=True)
    small = {name: part for name, part in whole.items() if name not in ("model", "ema")}
    config = run_folder / "config.yaml"

    def resumed() -> None:
        planned = resume.planned_config({"resume": str(run_folder), "max_epochs": 2})
        run = prepare(planned, World(CPU))
        try:
            fit(run)
        finally:
            run.experiment._lock.close()

    def case(random):
        part = random.choice((small, {"optimizer": small["optimizer"]}, {"rng": small["rng"]}))
        part = {"schedule": small["schedule"]} if random.random() < 0.2 else part
        changed = mutated_value(part, random)
        changed = {**whole, **changed} if isinstance(changed, dict) else changed
        torch.save(changed, file)
        settles(resumed)

    assert config.is_file() and settles(resumed) is None
    fuzz(count, case)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["evaluate.py", "infer.py", "train.py"])
def test_a_sample_through_the_command_line(run_folder, monkeypatch, capsys, command):
    files = {
        "evaluate.py": [
            "data/colors/test.txt",
            "data/colors/label.txt",
            f"{EXPERIMENT}/config.yaml",
        ],
        "infer.py": ["data/colors/test.txt", "data/colors/images/test1.png"],
        "train.py": ["data/colors/train.txt", "data/colors/images/train1.png"],
    }[command]
    arguments = TRAIN[1:] if command == "train.py" else ("--exp-dir", EXPERIMENT, "--workers", "0")

    def case(random):
        name = random.choice(files)
        whole = open(name, "rb").read()
        with open(name, "wb") as out:
            out.write(mutated_bytes(whole, random))
        result = run_here(monkeypatch, capsys, command, *arguments)
        with open(name, "wb") as out:
            out.write(whole)
        if result.code:
            error_line(result)

    fuzz(25, case)
