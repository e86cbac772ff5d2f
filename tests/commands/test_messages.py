"""The lines that users meet most, word for word. Elsewhere tests ask for the place alone."""

import re
from pathlib import Path

import pytest
import torch

from tests.helpers.commands import RUN, TRAIN
from tests.helpers.damage import cut, put, refused, swap, text

BEST, FLAT = (f"{folder}/checkpoints/best_ema_model.pth" for folder in (RUN, f"{RUN}/published"))
NAMES = {
    "TRAIN": f"{TRAIN} --batch-size 4 --max-epochs 1",
    "HEAD": f"{TRAIN} --batch-size 4".replace("--embed-type random", ""),  # for any --model
    "RESUME": f"train.py --resume {RUN}",
    "INFER": f"infer.py --workers 0 --exp-dir {RUN}",
    "EVALUATE": f"evaluate.py --workers 0 --exp-dir {RUN}",
    "PUBLISHED": f"evaluate.py --workers 0 --exp-dir {RUN}/published",
    "BEST": BEST,
    "FLAT": FLAT,
    "RUN": RUN,
}
DATA = "data/colors"
EMBEDDINGS = "module.attention.linear2.weight"
DAMAGES = {
    "no tab": (f"{DATA}/train.txt", text("a.png red\n")),
    "other label": (f"{DATA}/train.txt", text("a.png\trde\n")),
    "no image": (f"{DATA}/train.txt", text("gone.png\tred\n")),
    "label twice": (f"{DATA}/label.txt", text("red\nred\n")),
    "label order": (f"{DATA}/label.txt", text("red\nblue\ngreen\n")),
    "no picture": (f"{DATA}/images/train3.png", text("no picture")),
    "half": (BEST, cut(0.5)),
    "no weight": (BEST, put(..., "model", "head.object_classifier.weight")),
    "no encoder": (FLAT, put(..., "module.encoder.layers.0.norm1.bias")),
    "no backbone": (FLAT, put(..., "module.backbone.layer1.0.conv1.weight")),
    "more labels": (FLAT, put(torch.zeros(20, 96), "module.fc.weight")),
    "more numbers": (FLAT, put(torch.zeros(1024, 300), EMBEDDINGS)),
    "more layers": (f"{RUN}/config.yaml", swap("num_layers: 1", "num_layers: 2")),
    "other weights": ("a.pth", lambda file: torch.save({"a.weight": torch.zeros(2)}, file)),
}
# behind a dollar [a damage and] a command, and the line that it ends with
LINES = """
$ {TRAIN} --data voc2007
data/voc2007: no such data folder; make it with: python scripts/voc2007.py

$ {TRAIN} --data colours
data/colours: no such data folder; did you mean colors? see docs/data.md

$ {TRAIN} --arch resnet11
--arch resnet11: no such architecture; did you mean resnet101 or resnet101s or resnet101d?

$ {TRAIN} --num-heads 7
--num-heads 7: does not divide the backbone's 96 features

$ {TRAIN} --output-stride 5
--output-stride 5: test_resnet cannot take it: timm gives no reason; ResNets take 8, 16 and 32

$ {TRAIN} --embed-type glove
data/colors/glove.npy: no such file; make it with: python embedding.py --data data/colors --glove
FILE; or pass --embed-type random

$ {TRAIN} --weights gone.pth
--weights gone.pth: no such file: pass pretrained, none, or the path of a weight file, of an
experiment or of an exported model

$ {TRAIN} --lr nan
--lr nan: must be more than 0, and finite

$ {TRAIN} --batch-size 5
--batch-size 5: leaves one image at a time, too little for batch statistics (labels: 3, patches:
1 x 1); choose another

$ {HEAD} --model csra --lamda 0.4
--lamda: belongs to --model mlic, and has no effect with --model csra: leave it out

$ {TRAIN} --keep-classifiers
--keep-classifiers: belongs to --pretrained-model: pass both

$ {HEAD} --model linear --pretrained-model {RUN}
{BEST}: a checkpoint of another --model: it has head.inter_modal.label_projection.weight (0 names
missing, 49 unknown)

$ {TRAIN} --gamma-neg 0 --lamda 1e300
the loss is inf in epoch 1, step 1 (lr 6.91e-05); nothing was saved since: lower --lr, leave --amp
out if it is there, and check --lamda, the gammas, the label embeddings, and the images of that
step: data/colors/images/train3.png, data/colors/images/train2.png, data/colors/images/train5.png,
data/colors/images/train4.png

$ {TRAIN} --lr 1e30 --save-every 1
the weights have grown beyond float32 after step 1 (lr 6.91e+29); they were not saved: lower --lr

$ {RESUME} --lr 0.5
--lr 0.5 contradicts the run in {RUN}: it was started with --lr 0.0001; leave the flag out, or start
a new run without --resume

$ {RESUME} --amp
--amp contradicts the run in {RUN}: it was started without --amp; leave the flag out, or start a new
run without --resume

$ evaluate.py --exp-dir gone
--exp-dir gone: no such folder; train.py prints the one it makes

$ evaluate.py --exp-dir data
--exp-dir data: no experiment, or none with a trained epoch: data/config.yaml is missing

$ {INFER} --images gone.jpg
--images gone.jpg: no such file or folder

$ {INFER} --labels gren
--labels 'gren': no label of this experiment; did you mean green?

$ {INFER} --threshold 1.5
--threshold: 1.5: must be between 0 and 1 (see --help)

$ [no tab] {TRAIN}
data/colors/train.txt:1: expected 'path<TAB>label,label,...' (the TAB also where an image has no
labels)

$ [other label] {TRAIN}
data/colors/train.txt:1: label 'rde' is not in data/colors/label.txt; did you mean 'red'?

$ [no image] {TRAIN}
gone.png: no such image (listed in data/colors/train.txt); paths are relative to the working folder,
{HERE}

$ [label twice] {TRAIN}
data/colors/label.txt:2: duplicate label 'red'

$ [label order] {EVALUATE}
{RUN}: was trained on other labels, or in another order, than those in data/colors/label.txt:
restore that list, or train again

$ [no picture] {TRAIN}
data/colors/images/train3.png: not a readable image: of no known format; fix or remove it, or
tolerate some with --max-bad-images

$ [half] {EVALUATE}
{BEST}: no checkpoint of plain tensors, or a truncated or damaged one; nothing was run from it

$ [no weight] {EVALUATE}
{BEST}: a checkpoint of another --model: it lacks head.object_classifier.weight (1 names missing, 0
unknown)

$ [no encoder] {PUBLISHED}
{FLAT}: a checkpoint of another --num-layers: it lacks module.encoder.layers.0.norm1.bias (1 names
missing, 0 unknown)

$ [no backbone] {PUBLISHED}
{FLAT}: a checkpoint of another --arch: it lacks module.backbone.layer1.0.conv1.weight (1 names
missing, 0 unknown)

$ [more labels] {PUBLISHED}
{FLAT}: a checkpoint of another number of labels, --arch, or a flag of the head: module.fc.weight is
float32 (20, 96), expected float32 (3, 96)

$ [more numbers] {PUBLISHED}
{FLAT}: a checkpoint of another --embed-type: module.attention.linear2.weight is float32 (1024,
300), expected float32 (1024, 12)

$ [more layers] {RESUME}
{RUN}/config.yaml: says num_layers: 2, but the run was trained with --num-layers 1: restore that

$ [other weights] {TRAIN} --weights a.pth
--weights a.pth: does not fit test_resnet: expected conv1.0.weight, has a.weight (75 names missing,
1 unknown)
"""


@pytest.mark.parametrize(
    "damage, command, line", re.findall(r"^\$ (?:\[(.+)\] )?(.+)\n((?:.+\n)+)", LINES, re.MULTILINE)
)
def test_line(home, damage, command, line):
    if damage:
        file, change = DAMAGES[damage]
        change(Path(file))
    line = " ".join(line.format(**NAMES, HERE=Path.cwd()).split())
    assert refused(home.run, line.split(": ")[0], command.format(**NAMES), begun=True) == line
