"""Flags, keys of config.yaml, and what is refused."""

import dataclasses
import shlex

import pytest

from lib.config import Config
from lib.data.augment import TRAIN_TRANSFORMS
from lib.training.losses import LOSSES
from lib.training.optim import OPTIMIZERS
from lib.training.schedules import SCHEDULES
from tests.helpers import goldens
from tests.helpers.refusals import refused

PUBLISHED_COMMANDS = """
--model mlic --arch resnet101 --data voc2007 --loss asl --batch-size 128 --lr 0.00009 --lamda 0.1 \
--ema-decay 0.9983 --pos
--model mlic --arch resnet101 --data mscoco --loss asl --batch-size 128 --lr 0.00009 --lamda 0.4 \
--pos
--model mlic --arch resnet101 --data nuswide --loss asl --batch-size 128 --lr 0.00009 \
--lamda 0.05 --pos
""".strip()

# the published command line with its defaults: it may grow, but none of this may change
PUBLISHED_FLAGS = """
--model mlic --arch resnet101 --data voc2007 --seed 0 --lr 1e-4 --optimizer AdamW \
--lr-scheduler OneCycleLR --weight-decay 1e-4 --embed-type bert --num-layers 1 --num-heads 8 \
--loss asl --gamma-pos 0 --gamma-neg 2 --clip 0 --lamda 1 --tau 1 --ema-decay 0.9997 \
--ema-epoch 0 --pct-start 0.2 --batch-size 64 --img-size 448 --max-epochs 60 --topk 3 \
--threshold 0.5
"""
PUBLISHED_SWITCHES = "pos normalize-before rm-cls orid-norm amp true-weight-decay estop".split()


@pytest.mark.parametrize("command", PUBLISHED_COMMANDS.splitlines())
def test_published_commands_parse(command):
    config = Config.parse(shlex.split(command))
    assert config.pos and config.lr == 9e-5 and config.batch_size == 128


def test_published_flags_and_defaults_are_frozen():
    assert Config.parse(PUBLISHED_FLAGS.split()) == Config()
    for flag in PUBLISHED_SWITCHES:
        name = flag.replace("-", "_")
        assert not getattr(Config(), name) and getattr(Config.parse([f"--{flag}"]), name)
    assert Config.parse(["-twd"]).true_weight_decay and Config().pretrained_model is None
    assert Config.parse(["--pretrained-model", "exp1"]).pretrained_model == "exp1"


def test_yaml_gives_the_same_config_back(tmp_path):
    flags = ["--lr", "9e-05", "--weight-decay", "1e-10", "--pos"]
    for data in ("null", "007", "a: b", 'it\'s "it"', "# no", "caf\u00e9 " * 30, "x" * 200):
        config = Config.parse([*flags, "--data", data.strip()])
        (tmp_path / "config.yaml").write_text(config.to_yaml())
        assert Config.load(tmp_path / "config.yaml") == config


def test_published_config_is_understood():
    config = Config.load(goldens.GOLDEN_DIR / "published_config.yaml")
    assert config.lr == 9e-5 and config.pretrained_model is None and config.pos is True


# whatever stands in keys that nobody knows, at any line end, with a byte order mark
BY_PRINT = """\ufeffargs: Namespace(a=1, b='x: y')\r
glob: *.jpg\r
fmt: %s @home\r
empty:\r
data: my #1: set\r
arch: resnet18\r
lr: 9e-05\r
pretrained_model: None\r
pos: True\r
- what is this"""
BY_HAND = """# my best run
arch: resnet18  # note
data: "my #1: set"  # quoted
lr:    9e-05
pretrained_model: null
pos: true # yes
weights: >-
  a folded
  name.pth
batch_size : 8
other: {nested: [1, 2]}"""


@pytest.mark.parametrize("text", [BY_PRINT, BY_HAND])
def test_lines_that_were_printed_or_written_by_hand_are_understood(tmp_path, text):
    (tmp_path / "config.yaml").write_bytes(text.encode())
    config = Config.load(tmp_path / "config.yaml")
    assert (config.arch, config.data, config.lr) == ("resnet18", "my #1: set", 9e-5)
    assert config.pretrained_model is None and config.pos is True
    if text == BY_HAND:
        assert config.weights == "a folded name.pth" and config.batch_size == 8


def test_only_what_is_asked_for_is_read(tmp_path):
    (tmp_path / "config.yaml").write_text("arch: resnet18\noptimizer: SAM\ntopk: 5\n")
    config = Config.load(tmp_path / "config.yaml", required=("arch",), optional=("topk",))
    assert (config.arch, config.topk, config.optimizer) == ("resnet18", 5, "AdamW")


def test_text_of_numbers_is_read_as_numbers():
    values = {"lr": "9e-05", "pretrained_model": "None", "pos": "True", "batch_size": "8", "x": 1}
    config = Config.from_dict(values, "config.yaml")
    assert (config.lr, config.pretrained_model, config.pos) == (9e-5, None, True)
    assert Config.from_dict({"data": 2024}, "config.yaml").data == "2024"
    assert Config.from_dict({"data": "None"}, "config.yaml").data == "None"


@pytest.mark.parametrize(
    ("flags", "where"),
    [
        *(("--lr nan", "--lr nan"), ("--lr 0", "--lr 0.0"), ("--lr inf", "--lr inf")),
        *((flags, flags) for flags in ("--batch-size 0", "--max-epochs -1", "--img-size 0")),
        *((flags, flags) for flags in ("--pct-start 1.5", "--threshold -0.1", "--workers -1")),
        *((flags, flags) for flags in ("--seed -1", "--limit 0")),
        *(("--ema-decay 1", "--ema-decay 1.0"), ("--tau 0", "--tau 0.0")),
        *(("--backbone-lr-scale 0", "--backbone-lr-scale 0.0"), ("--weights=", "--weights ")),
        ("--orid-norm --norm imagenet", None),
        ("--freeze-backbone --backbone-lr-scale 0.1", None),
        *(("--loss focal", "--loss"), ("--batch-size many", "--batch-size")),
        ("--epochs 3", "unrecognized arguments"),
    ],
)
def test_bad_flags_are_named(flags, where):
    with refused(where, flags.split()[0].rstrip("=")):
        Config.parse(flags.split())


@pytest.mark.parametrize(
    ("text", "part"),
    [
        *(("lr: fast", "lr: 'fast'"), ("pos: maybe", "pos: 'maybe'"), ("lr: -1", "--lr -1.0")),
        *(("batch_size: 1.5", "batch_size: '1.5'"), ("loss: focal", "--loss focal")),
        *(("arch: resnet18\nlr: [9e-05]", "lr: "), ("- 1", ""), ("", "")),
    ],
)
def test_bad_config_files_are_named(tmp_path, text, part):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with refused(file, part):
        Config.load(file)


def choices_of(name):
    (field,) = [item for item in dataclasses.fields(Config) if item.name == name]
    return field.metadata["choices"]


def test_tables_hold_the_choices_of_their_flags():
    assert tuple(LOSSES) == choices_of("loss") and tuple(OPTIMIZERS) == choices_of("optimizer")
    assert tuple(SCHEDULES) == choices_of("lr_scheduler")
    assert tuple(TRAIN_TRANSFORMS) == choices_of("augment")


def test_normalization_follows_its_flags():
    assert Config().normalization is None  # the architecture's default
    assert Config(orid_norm=True).normalization == "none"
    assert Config(norm="weights").normalization == "weights"
