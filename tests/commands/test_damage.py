"""Wrong flags, damaged files and failures: exit code 2, one line that names the place, nothing lost
and nothing half-written. `test_messages.py` has the whole lines that users meet most."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.common.errors import UserError
from lib.experiment.loading import REQUIRED_KEYS
from tests.helpers.commands import ROOT, RUN, TRAIN, error_line, run
from tests.helpers.damage import Harm, cut, gone, put, refused, saved, swap, text

SHORT = f"{TRAIN} --batch-size 4 --max-epochs 1"
HEAD = SHORT.replace("--embed-type random", "")  # for any --model
FROZEN = f"{SHORT} --freeze-backbone --cache-features features"
EVALUATE = f"evaluate.py --workers 0 --exp-dir {RUN}"
INFER = f"infer.py --workers 0 --exp-dir {RUN}"
RESUME = f"train.py --resume {RUN}"
BEST, LAST = (f"{RUN}/checkpoints/{name}.pth" for name in ("best_ema_model", "last"))
DATA = "data/colors"

FLAGS = [
    (SHORT, "--data voc2007/", "data/voc2007"),
    (SHORT, "--data colors/nothing", "colors/nothing"),
    (SHORT, "--img-size 30 --arch test_vit", "--img-size 30"),
    (SHORT, "--img-size 99999999999999999999", "--img-size 99999999999999999999"),
    (SHORT, "--output-stride 16 --arch test_vit --img-size 160", "--output-stride 16"),
    (SHORT, "--output-stride 5 --arch test_efficientnet", "--output-stride 5"),
    (SHORT, "--embed-type glove", f"{DATA}/glove.npy"),
    (SHORT, f"--weights {DATA}/label.txt", f"--weights {DATA}/label.txt"),
    (SHORT, "--weights experiments", "--weights experiments/checkpoints/best_ema_model.pth"),
    (SHORT, f"--weights {RUN} --arch resnet10t", f"--weights {BEST}"),
    (SHORT, "--pretrained-model gone", "gone"),
    (SHORT, f"--pretrained-model {RUN} --embed-type bert --no-context", BEST),
    (SHORT, "--batch-size 0", "--batch-size 0"),
    (SHORT, "--max-epochs 0", "--max-epochs 0"),
    (SHORT, "--arch resnet18.nosuchtag", "--arch resnet18.nosuchtag"),
    (SHORT, "--arch crossvit_tiny_240 --img-size 240", "--arch crossvit_tiny_240"),
    (SHORT, "--keep-classifiers", "--keep-classifiers"),
    (SHORT, "--embed-norm center", "--embed-norm center"),
    (HEAD, "--model mlp", "--model"),
    (HEAD, "--model linear --pos", "--pos"),
    (HEAD, "--csra-heads 4", "--csra-heads"),
    (HEAD, "--model csra --csra-heads 3", "--csra-heads"),
    (HEAD, "--model csra --csra-lambda nan", "--csra-lambda nan"),
    (HEAD, f"--model csra --pretrained-model {RUN}", BEST),
    *((HEAD, f"--model q2l --hidden-dim {n}", f"--hidden-dim {n}") for n in (18, 0, -4)),
    (FROZEN, "--augment published", "--augment published"),
    (FROZEN, "--cache here", "--cache"),
    (FROZEN, "--cache-limit 1e-9", "--cache-features features"),
    (SHORT, "--cache-features features", "--cache-features"),
    (RESUME, "--arch test_vit", "--arch test_vit"),
    (RESUME, "--data digits", "--data digits"),
    (RESUME, "--clip-grad 1", "--clip-grad 1.0"),
    (RESUME, "--max-epochs 1", "--max-epochs 1"),
    (RESUME, "--accum-steps 3", "--accum-steps 3"),
    *(("train.py", f"--resume {name}", f"--resume {name}") for name in ("gone", "data")),
    ("train.py", f"--resume {DATA}/label.txt", f"--resume {DATA}/label.txt"),
    (f"evaluate.py --exp-dir {RUN}/published/checkpoints/best_ema_model.pth",)
    + ("", f"{RUN}/published/checkpoints/best_ema_model.pth"),
    ("infer.py", "--exp-dir gone", "--exp-dir gone"),
    ("infer.py", "--exp-dir data", "--exp-dir data"),
    (INFER, "--images empty", "--images empty"),
    (INFER, "--images broken", "no image to show: broken/a.jpg"),
    (INFER, "--images broken/notes", "--images broken/notes"),
    (INFER, f"--images {DATA}/label.txt", f"no image to show: {DATA}/label.txt"),
    (INFER, "--images data --labels red --threshold 1", "no image to show"),
    (INFER, "--labels ,", "--labels"),
    (INFER, "--limit 0", "--limit"),
    (INFER, "--top 0", "--top"),
    *((INFER, f"--threshold {value}", "--threshold") for value in ("1.5", "nan")),
    (INFER, "--only-errors --images data", "--only-errors"),
    (INFER, "--format json", "--format"),
    (INFER, "--tags-only --overlays", "--overlays"),
    (INFER, "--tags-only --boxes", "--boxes"),
    (INFER, "--tags-only --map attention", "--map"),
    (INFER, "--format json --images data --boxes", "--boxes"),
    (INFER, "--skip-done --tags-only", "--skip-done"),
    (INFER, "--skip-done --images data", "--skip-done"),
    (INFER, "--skip-done --images data --tags-only --labels red", "--labels"),
    (f"scripts/export.py --format published --exp-dir {RUN}", "", f"{RUN}/published"),
]


@pytest.mark.parametrize("command, flags, where", FLAGS)
def test_wrong_flags_are_named(home, command, flags, where):
    Path("broken/notes").mkdir(parents=True)
    Path("empty").mkdir()
    for name in ("a.jpg", "b.jpg", "notes/a.txt"):
        Path("broken", name).write_text("no picture")
    refused(home.run, where, f"{command} {flags}")


@pytest.mark.parametrize("script", ["digits.py", "voc2007.py"])
@pytest.mark.parametrize("folder", ["", "a\tb"])
def test_folders_that_no_list_can_name(home, script, folder):
    home.refused("--save-dir", f"scripts/{script} --save-dir", folder)


HARM = {"model": {"a": Harm()}, "labels": [], "config": {}}
WEIGHT, BIAS = "head.object_classifier.weight", "head.inter_modal.score.bias"
FLOAT8 = torch.zeros(2, dtype=torch.uint8).view(torch.float8_e4m3fn)
COUNT, FOURTH = torch.tensor([1]), torch.zeros(4)
OTHER_KINDS = (torch.int64, torch.complex64)
NOT_PLAIN = [torch.zeros(3).to_sparse(), torch.zeros(3, device="meta"), FLOAT8]
BOX = json.dumps({"other.png": [{"label": "red", "box": [0, 0, 1, 1], "difficult": False}]})
WEIGHTS = ({}, {"conv1.weight": torch.tensor([torch.nan])})
UNKNOWN = f"{DATA}/images/%s0.png\t?red,?green,?blue\n"

# file, damage, command, and what the line begins with, where that is not the file
FILES = [
    (f"{DATA}/test.txt", text(""), SHORT, ""),
    (f"{DATA}/train.txt", text(UNKNOWN % "train"), SHORT, "train.txt"),
    (f"{DATA}/test.txt", text(UNKNOWN % "test"), SHORT, "test.txt"),
    (
        f"{DATA}/bert.npy",
        lambda file: np.save(file, np.ones((3, 12))),
        f"{SHORT} --embed-type bert --embed-norm center",
        "--embed-norm",
    ),
    (f"{DATA}/boxes.json", text(BOX), EVALUATE, "boxes.json"),
    (f"{DATA}/label.txt", text("red\nblue\ngreen\n"), INFER, RUN),
    # checkpoints of this project
    (f"{RUN}/config.yaml", gone, EVALUATE, f"--exp-dir {RUN}"),
    (BEST, gone, EVALUATE, f"--exp-dir {RUN}"),
    (BEST, saved(HARM), EVALUATE, ""),
    (BEST, put(torch.zeros(9, 9), "model", WEIGHT), EVALUATE, ""),
    (BEST, put(torch.zeros(5), "model", "head.label_embeddings"), EVALUATE, ""),
    *((BEST, put(value, "model", WEIGHT), EVALUATE, "") for value in NOT_PLAIN),
    (BEST, put(torch.zeros(1), "model", 5), EVALUATE, f"{BEST}: model"),
    (BEST, put(torch.tensor([torch.nan]), "model", BIAS), EVALUATE, f"{BEST}: model"),
    (BEST, put(COUNT, "model", BIAS), EVALUATE, ""),
    (BEST, put("resnet18", "config", "arch"), INFER, ""),
    (BEST, put("fast", "config", "lr"), INFER, f"{BEST}: lr"),
    (BEST, put(10**9, "config", "num_layers"), INFER, f"{BEST}: --num-layers 1000000000"),
    (BEST, put(10**6, "config", "img_size"), INFER, f"{BEST}: --img-size 1000000"),
    (BEST, put(10**6, "config", "workers"), INFER, f"{BEST}: --workers 1000000"),
    (BEST, put(..., "labels"), INFER, ""),
    (BEST, put([1, 2, 3], "labels"), INFER, ""),
    (BEST, put([*"abcd"], "labels"), INFER, ""),
    (BEST, put(["a\nb", "c", "d"], "labels"), INFER, f"{BEST}: labels[0]"),
    (BEST, put(["a"] * 3, "labels"), INFER, f"{BEST}: labels[1]"),
    # weight files
    *(("a.pth", saved(one), f"{SHORT} --weights a.pth", "--weights a.pth") for one in WEIGHTS),
    ("a.npz", lambda file: np.savez(file, x=np.zeros(2)), f"{SHORT} --weights a.npz")
    + ("--weights a.npz",),
    # states of runs
    (LAST, cut(0.5), RESUME, ""),
    (LAST, gone, RESUME, ""),
    (LAST, put(3, "version"), RESUME, ""),
    (LAST, put(..., "model", "head.object_classifier.bias"), RESUME, ""),
    (f"{RUN}/config.yaml", swap("optimizer: AdamW", "optimizer: SGD"), RESUME, ""),
    (f"{RUN}/config.yaml", swap("lamda: 1.0", "lamda: 0.0"), RESUME, ""),
    (f"{RUN}/config.yaml", swap("pos: true", "pos: false"), RESUME, ""),
    (f"{DATA}/label.txt", text("red\nblue\ngreen\n"), RESUME, f"--resume {RUN}"),
    (f"{DATA}/train.txt", swap("train3.png\t", "train3.png\t?"), RESUME, f"--resume {RUN}"),
    (f"{DATA}/test.txt", swap("test3.png\t", "test3.png\t?"), RESUME, f"--resume {RUN}"),
]
PUBLISHED = f"{RUN}/published"
FLAT, CONFIG = f"{PUBLISHED}/checkpoints/best_ema_model.pth", f"{PUBLISHED}/config.yaml"
SCORE = f"evaluate.py --workers 0 --exp-dir {PUBLISHED}"
EXPORT = f"scripts/export.py --format published --save-dir new --exp-dir {PUBLISHED}"
FILES += [
    *((FLAT, damage, SCORE, "") for damage in (text(""), cut(0.5), cut(0.99), saved({}))),
    *((FLAT, saved(one), SCORE, "") for one in ({3: FOURTH}, {"module.a": Harm()}, b"text")),
    (FLAT, text(pickle.dumps({"module.x": Harm()})), SCORE, ""),
    (FLAT, lambda file: torch.jit.script(torch.nn.Linear(2, 2)).save(file), SCORE, ""),
    (FLAT, put("text", "module.fc.bias"), SCORE, ""),
    (FLAT, put(..., "module.fc.bias"), EXPORT, ""),
    (FLAT, put(..., "module.fc.bias"), f"infer.py --exp-dir {PUBLISHED}", ""),
    (FLAT, put(..., "module.net2.0.weight"), SCORE, ""),
    (FLAT, put(FOURTH, "module.encoder.layers.1.norm1.bias"), SCORE, ""),
    (FLAT, put(torch.zeros(3, 12), "module.embeddings"), SCORE, ""),
    *((FLAT, put(torch.zeros(3, dtype=kind), "module.fc.bias"), SCORE, "") for kind in OTHER_KINDS),
    *((FLAT, put(value, "module.fc.bias"), SCORE, "") for value in NOT_PLAIN),
    (CONFIG, swap("arch: test_resnet", "arch: resnet_101"), SCORE, f"{CONFIG}: --arch resnet_101"),
    (CONFIG, swap("num_heads: 8", "num_heads: 7"), SCORE, f"{CONFIG}: --num-heads 7"),
    (CONFIG, swap("img_size: 32", "img_size: 32px"), SCORE, f"{CONFIG}: img_size"),
    (CONFIG, swap("arch: test_resnet", "arch: resnet18"), SCORE, FLAT),
    (CONFIG, swap("embed_type: bert", "embed_type: random"), SCORE, FLAT),
    (CONFIG, swap("num_layers: 1", "num_layers: 2"), SCORE, FLAT),
    (CONFIG, swap("embed_type: bert", "embed_type: glove"), SCORE, f"{DATA}/glove.npy"),
    (CONFIG, swap("data: colors", "data: colours"), SCORE, "data/colours"),
    (CONFIG, swap("\nweights: ", "\nno_weights: "), f"train.py --resume {PUBLISHED}", ""),
    *((CONFIG, swap(f"\n{key}: ", f"\nno_{key}: "), SCORE, "") for key in REQUIRED_KEYS),
]


@pytest.mark.parametrize("file, damage, command, where", FILES)
def test_damaged_files_are_named(home, recwarn, file, damage, command, where):
    damage(Path(file))
    refused(home.run, where or file, command)
    assert not Path("harm").exists()
    assert not [one for one in recwarn if "torch.load" in str(one.message)]


TEST1 = f"{DATA}/images/test1.png"
IMAGES = [
    (f"{DATA}/images/train3.png", text("no picture"), f"{SHORT} --workers 1"),
    (f"{DATA}/images/train3.png", cut(0.5), f"{FROZEN} --augment none"),
    (TEST1, text(""), EVALUATE),
]


@pytest.mark.parametrize("image, damage, command", IMAGES)
def test_broken_images_are_named(home, image, damage, command):
    damage(Path(image))
    refused(home.run, image, command, begun=True)


# function, what it raises, command, and what the line begins with
NO_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
LOCKED = PermissionError(13, "Permission denied", BEST)
FULL = UserError("scores.npz: cannot be written: No space left on device")
FAILURES = [
    ("lib.training.prepare.Ema", NO_MEMORY, SHORT, "out of memory"),
    ("lib.runtime.world.World.wrap_ddp", NO_MEMORY, SHORT, "out of memory"),
    ("lib.training.validate.prepare_for_inference", NO_MEMORY, SHORT, "out of memory"),
    ("lib.predictor.prepare_for_inference", NO_MEMORY, EVALUATE, "out of memory"),
    ("lib.experiment.checkpoint.require_honest_size", LOCKED, EVALUATE, BEST),
    ("lib.inference.evaluate.read_boxes", LOCKED, EVALUATE, BEST),
    ("lib.inference.evaluate.write_npz", FULL, EVALUATE, "scores.npz"),
]


@pytest.mark.parametrize("function, error, command, where", FAILURES)
def test_failures_of_the_machine_are_named(home, monkeypatch, function, error, command, where):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(function, fail)
    refused(home.run, where, command, begun=True)


DYING = """
import os, runpy, sys
from pathlib import Path
import lib.data.dataset as dataset
read_image = dataset.read_image

def killed_once_saved(path, exif):
    if "train" in path and Path("experiments/mlic_colors/exp2/checkpoints/last.pth").exists():
        os.kill(os.getpid(), 9)
    return read_image(path, exif)

dataset.read_image = killed_once_saved
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_worker_that_dies_ends_the_run(home):
    """Killed in the second epoch: the first one is saved, and train.log ends with the reason."""
    script, *flags = f"{SHORT} --max-epochs 2 --workers 1".split()
    line = error_line(run("-c", DYING, ROOT / script, *flags, cwd=Path.cwd()))
    experiment = Path("experiments/mlic_colors/exp2")
    assert line.partition("error: ")[2] in (experiment / "train.log").read_text().splitlines()[-1]
    assert torch.load(experiment / "checkpoints" / "last.pth")["epoch"] == 1


def test_what_ends_a_run_is_noted(home):
    line = home.refused(
        "the loss is inf in epoch 1, step 1", f"{SHORT} --gamma-neg 0 --lamda 1e300"
    )
    log = Path("experiments/mlic_colors/exp2/train.log").read_text()
    assert f"error: {line}" in log


def test_a_bug_keeps_its_traceback(home, monkeypatch):
    monkeypatch.setattr("lib.config.Config.flags", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        home.run("train.py")
