"""Published experiment folders at toy size: export, reading back, misfits."""

import pickle
import shutil
from unittest import mock

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from lib.experiment.loading import REQUIRED_KEYS
from lib.predictor import Predictor
from models import backbones
from models.weights import resize_table
from tests.helpers.commands import TINY, NoCapture, error_line, make_data, run_here

FLAGS = "--data colors --batch-size 6 --max-epochs 1 --pos --embed-type bert".split()

EXPERIMENT = "experiments/mlic_colors/exp1"
EXPORTED = f"{EXPERIMENT}/published"
CHECKPOINT = "checkpoints/best_ema_model.pth"
FORM = ("--format", "published")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A working folder with one experiment on fixed label embeddings, evaluated and exported."""
    folder = tmp_path_factory.mktemp("published")
    np.save(make_data(folder) / "bert.npy", np.random.default_rng(0).normal(size=(3, 12)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        capture = NoCapture()
        for command in (
            ("train.py", *TINY, *FLAGS),
            ("evaluate.py", "--exp-dir", EXPERIMENT, "--workers", "0"),
            ("scripts/export.py", "--exp-dir", EXPERIMENT, "--format", "published"),
        ):
            assert run_here(patch, capture, *command).code == 0
    return folder


@pytest.fixture
def here(trained, tmp_path, monkeypatch, capsys, no_curves):
    """Runs commands in a fresh copy of the trained folder."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return lambda *command: run_here(monkeypatch, capsys, *command)


def scores(experiment):
    with np.load(f"{experiment}/scores.npz") as file:
        return file["scores"]


def change_state(change):
    file = f"{EXPORTED}/{CHECKPOINT}"
    state = torch.load(file)
    change(state)
    torch.save(state, file)


def change_config(**values):
    with open(f"{EXPORTED}/config.yaml", "a") as file:
        file.writelines(f"{name}: {value}\n" for name, value in values.items())


def test_an_export_gives_the_same_scores_back(here):
    assert here("evaluate.py", "--exp-dir", EXPORTED, "--workers", "0").code == 0
    np.testing.assert_allclose(scores(EXPORTED), scores(EXPERIMENT), atol=1e-6)
    assert here("infer.py", "--exp-dir", EXPORTED, "--workers", "0").code == 0


def test_images_are_read_as_the_export_says(here):
    """An export of this project keeps `exif`, which no published config has."""
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.open("data/colors/images/test0.png").save("a.png", exif=turned)
    own, upright = (Predictor(name, device="cpu")(["a.png"])[0] for name in (EXPERIMENT, EXPORTED))
    np.testing.assert_allclose(own, upright, atol=1e-6)
    config = open(f"{EXPORTED}/config.yaml").read()
    with open(f"{EXPORTED}/config.yaml", "w") as file:
        file.write(config.replace("exif: upright\n", ""))
    published = Predictor(EXPORTED, device="cpu")
    assert published.config.exif == "stored"
    assert np.abs(published(["a.png"])[0] - own).max() > 1e-6


def test_an_export_has_the_published_form(here):
    state = torch.load(f"{EXPORTED}/{CHECKPOINT}", weights_only=True)
    assert all(name.startswith("module.") for name in state)
    assert "module.embeddings" not in state and "module.position_embedding.pe" in state
    lines = open(f"{EXPORTED}/config.yaml").read().splitlines()
    values = dict(line.split(": ", 1) for line in lines)
    assert values["pretrained_model"] == "None" and values["pos"] == "True"
    assert values["num_classes"] == "3" and values["embed_path"] == "data/colors/bert.npy"
    for name in ("label.txt", "bert.npy"):
        assert open(f"{EXPORTED}/data/colors/{name}", "rb").read()


def test_an_export_says_what_else_it_needs(here):
    command = ("scripts/export.py", "--exp-dir", EXPERIMENT, "--format", "published")
    assert "exists; remove it, or pass another --save-dir" in error_line(here(*command))
    result = here(*command, "--save-dir", "a")
    assert "note: the published code has no --arch test_resnet" in result.out
    assert "note: the published code does not turn images by EXIF" in result.out
    assert "does not hold" not in result.out
    np.save("data/colors/bert.npy", np.ones((3, 12)))
    result = here(*command, "--save-dir", "b")
    assert "put the files of b/data/colors there" in result.out
    before = scores(EXPERIMENT)
    for name in ("label.txt", "bert.npy"):
        shutil.copy(f"b/data/colors/{name}", f"data/colors/{name}")
    assert here("evaluate.py", "--exp-dir", "b", "--workers", "0").code == 0
    np.testing.assert_allclose(scores("b"), before, atol=1e-6)


def test_an_export_says_what_the_published_code_cannot(here):
    flags = "--arch test_vit --weights none --img-size 64 --workers 0 --norm weights".split()
    assert here("train.py", *flags, *FLAGS).code == 0
    said = here("scripts/export.py", "--exp-dir", "experiments/mlic_colors/exp2", *FORM).out
    assert "no position code for a class token" in said
    assert "cannot normalise by what the weights expect" in said and "output-stride" not in said
    assert here("train.py", *TINY, *FLAGS, "--arch", "resnet10t", "--output-stride", "16").code == 0
    said = here("scripts/export.py", "--exp-dir", "experiments/mlic_colors/exp3", *FORM).out
    assert "the published code has no --output-stride 16" in said and "class token" not in said
    assert here("train.py", *TINY, *FLAGS, "--exif", "stored").code == 0
    assert "EXIF" not in here("scripts/export.py", "--exp-dir", f"{EXPERIMENT[:-1]}4", *FORM).out


def test_paths_of_any_spelling_come_back(here):
    target = "a: b #1/p"
    command = ("scripts/export.py", "--exp-dir", EXPERIMENT, *FORM, "--save-dir", target)
    assert here(*command).code == 0
    assert here("evaluate.py", "--exp-dir", target, "--workers", "0").code == 0
    np.testing.assert_allclose(scores(target), scores(EXPERIMENT), atol=1e-6)


def test_training_at_another_side_resizes_the_position_table(here):
    """From either form, as --weights does."""
    flags = "--arch test_vit --weights none --workers 0 --img-size".split()
    assert here("train.py", *flags, "64", *FLAGS).code == 0
    experiment = "experiments/mlic_colors/exp2"
    assert here("scripts/export.py", "--exp-dir", experiment, *FORM).code == 0
    assert here("infer.py", "--exp-dir", f"{experiment}/published", "--workers", "0").code == 0
    for form in (experiment, f"{experiment}/published"):
        more = ("--lr", "1e-30", "--pretrained-model", form)
        assert here("train.py", *flags, "96", *FLAGS, *more).code == 0
    name = "backbone.trunk.pos_embed"
    first, second, third = (
        torch.load(f"experiments/mlic_colors/exp{n}/{CHECKPOINT}")["model"][name] for n in (2, 3, 4)
    )
    expected = resize_table(first, (6, 6), 1)
    torch.testing.assert_close(second, expected)
    torch.testing.assert_close(third, expected)


@pytest.mark.parametrize("norm", ["none", "weights"])
def test_an_export_keeps_the_normalisation(here, norm):
    assert here("train.py", *TINY, *FLAGS, "--norm", norm).code == 0
    experiment = "experiments/mlic_colors/exp2"
    here("evaluate.py", "--exp-dir", experiment, "--workers", "0")
    here("scripts/export.py", "--exp-dir", experiment, "--format", "published")
    exported = f"{experiment}/published"
    config = yaml.safe_load(open(f"{exported}/config.yaml"))
    assert config["orid_norm"] is (norm == "none")
    assert here("evaluate.py", "--exp-dir", exported, "--workers", "0").code == 0
    np.testing.assert_allclose(scores(exported), scores(experiment), atol=1e-6)


def test_learned_label_embeddings_are_in_the_export(here):
    assert here("train.py", *TINY, *FLAGS, "--embed-type", "random").code == 0
    experiment = "experiments/mlic_colors/exp2"
    here("evaluate.py", "--exp-dir", experiment, "--workers", "0")
    assert here("scripts/export.py", "--exp-dir", experiment, "--format", "published").code == 0
    exported = f"{experiment}/published"
    assert here("evaluate.py", "--exp-dir", exported, "--workers", "0").code == 0
    np.testing.assert_allclose(scores(exported), scores(experiment), atol=1e-6)


def test_nothing_is_downloaded_to_evaluate(here, monkeypatch):
    """Though the config, as the published ones do, trained from downloaded weights."""
    download = mock.Mock(side_effect=AssertionError)
    monkeypatch.setattr(backbones, "pretrained_weights", download)
    change_config(weights="pretrained")
    assert here("evaluate.py", "--exp-dir", EXPORTED, "--workers", "0").code == 0
    assert not download.called


def test_extra_names_and_keys_are_ignored(here):
    def add(state):
        state["module.backbone.head.weight"] = torch.ones(7, 9)
        state["module.backbone.head.bias"] = torch.ones(7)
        del state["module.position_embedding.pe"]

    change_state(add)
    change_config(warmup_epoch=2, label_path="/gone/label.txt", exp_dir="/gone/exp")
    assert here("evaluate.py", "--exp-dir", EXPORTED, "--workers", "0").code == 0
    np.testing.assert_allclose(scores(EXPORTED), scores(EXPERIMENT), atol=1e-6)


@pytest.mark.parametrize("form", [EXPERIMENT, EXPORTED, f"{EXPORTED}/{CHECKPOINT}"])
def test_training_starts_from_either_form(here, form):
    """With a learning rate of almost nothing and no network, all but the classifiers comes over."""
    flags = (*TINY, *FLAGS, *"--lr 1e-30 --seed 7 --weights pretrained".split())
    assert here("train.py", *flags, "--pretrained-model", form).code == 0
    first, second = (
        torch.load(f"experiments/mlic_colors/exp{n}/{CHECKPOINT}")["model"] for n in (1, 2)
    )
    for name in ("backbone.trunk.layer1.0.conv1.weight", "head.intra_modal.context.linear.weight"):
        torch.testing.assert_close(second[name], first[name])
    assert not torch.allclose(
        second["head.patch_classifier.0.weight"], first["head.patch_classifier.0.weight"]
    )


def missing(name):
    return lambda state: state.pop(name)


def shaped(name, *shape):
    return lambda state: state.update({name: torch.zeros(shape)})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (missing("module.fc.bias"), "it lacks module.fc.bias (1 names missing"),
        (missing("module.net2.0.weight"), "it lacks module.net2.0.weight"),
        (
            missing("module.backbone.layer1.0.conv1.weight"),
            "another --arch: it lacks module.backbone.layer1.0.conv1.weight",
        ),
        (missing("module.encoder.layers.0.norm1.bias"), "it lacks module.encoder.layers.0.norm1."),
        (
            shaped("module.fc.weight", 20, 96),
            "module.fc.weight is float32 (20, 96), expected float32 (3, 96)",
        ),
        (
            shaped("module.attention.linear2.weight", 1024, 300),
            "another --embed-type: module.attention.linear2.weight is float32 (1024, 300), "
            "expected float32 (1024, 12)",
        ),
        (
            shaped("module.embeddings", 3, 12),
            f"holds learned label embeddings, but {EXPORTED}/config.yaml says embed_type: bert",
        ),
        (
            shaped("module.encoder.layers.1.norm1.bias", 96),
            "another --num-layers: it has module.encoder.layers.1.norm1.bias",
        ),
        (
            lambda state: state.update({"module.fc.bias": torch.zeros(3, dtype=torch.int64)}),
            "module.fc.bias is int64 (3,), expected float32 (3,)",
        ),
        (
            lambda state: state.update({"module.fc.bias": torch.zeros(3, dtype=torch.complex64)}),
            "module.fc.bias is complex64 (3,), expected float32 (3,)",
        ),
        (
            lambda state: state.update({"module.fc.bias": torch.zeros(3).to_sparse()}),
            "values that are not plain tensors",
        ),
        (
            lambda state: state.update({"module.fc.bias": torch.zeros(3, device="meta")}),
            "values that are not plain tensors",
        ),
    ],
)
def test_checkpoints_that_do_not_fit(here, change, says):
    change_state(change)
    line = error_line(here("evaluate.py", "--exp-dir", EXPORTED))
    assert says in line and "best_ema_model.pth" in line


@pytest.mark.parametrize("command", [("infer.py",), ("scripts/export.py", *FORM)])
def test_other_commands_refuse_them_too(here, command):
    change_state(missing("module.fc.bias"))
    assert "it lacks module.fc.bias" in error_line(here(*command, "--exp-dir", EXPORTED))


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("arch", "resnet_101", "config.yaml: --arch resnet_101: no such architecture; did you"),
        ("num_heads", "7", "config.yaml: --num-heads 7: does not divide"),
        ("arch", "resnet18", "another --arch"),
        ("embed_type", "random", "holds no learned label embeddings, but"),
        ("embed_type", "glove", "data/colors/glove.npy: no such file"),
        ("data", "colours", "data/colours: no such data folder; did you mean colors?"),
        ("img_size", "384px", "config.yaml: img_size: '384px' is not of type int"),
        ("num_layers", "2", "another --num-layers: it lacks module.encoder.layers.1."),
    ],
)
def test_configs_that_do_not_fit(here, name, value, says):
    change_config(**{name: value})
    assert says in error_line(here("evaluate.py", "--exp-dir", EXPORTED))


@pytest.mark.parametrize("name", REQUIRED_KEYS)
def test_configs_that_leave_out_what_decides(here, name):
    lines = open(f"{EXPORTED}/config.yaml").read().splitlines(keepends=True)
    with open(f"{EXPORTED}/config.yaml", "w") as file:
        file.writelines(line for line in lines if not line.startswith(f"{name}:"))
    line = error_line(here("evaluate.py", "--exp-dir", EXPORTED))
    assert f"published/config.yaml: lacks a line '{name}: ...'" in line


def test_a_published_checkpoint_alone_is_not_enough(here):
    line = error_line(here("evaluate.py", "--exp-dir", f"{EXPORTED}/{CHECKPOINT}"))
    assert "needs its config.yaml" in line


def test_labels_of_another_data_folder(here):
    with open("data/colors/label.txt", "a") as file:
        file.write("black\n")
    np.save("data/colors/bert.npy", np.ones((4, 12)))
    line = error_line(here("infer.py", "--exp-dir", EXPORTED, "--images", "data"))
    assert "module.fc.weight is float32 (3, 96)" in line


class Evil:
    def __reduce__(self):
        return (print, ("run by the checkpoint",))


@pytest.mark.parametrize(
    "content",
    [
        lambda state: {**state, "module.fc.bias": Evil()},
        lambda state: b"not a checkpoint",
        lambda state: {"module.fc.bias": "text"},
        lambda state: {3: torch.ones(2)},
        lambda state: {},
    ],
)
def test_hostile_checkpoints(here, content):
    file = f"{EXPORTED}/{CHECKPOINT}"
    torch.save(content(torch.load(file)), file)
    result = here("evaluate.py", "--exp-dir", EXPORTED)
    assert "best_ema_model.pth" in error_line(result)
    assert "run by the checkpoint" not in result.out


def test_hostile_files_leave_one_line(here, recwarn):
    """A bare pickle, and a TorchScript archive: torch warns of both."""
    file = f"{EXPORTED}/{CHECKPOINT}"
    with open(file, "wb") as out:
        pickle.dump({"module.x": Evil()}, out)
    error_line(here("evaluate.py", "--exp-dir", EXPORTED))
    torch.jit.script(torch.nn.Linear(2, 2)).save(file)
    error_line(here("evaluate.py", "--exp-dir", EXPORTED))
    assert not [w for w in recwarn if "torch.load" in str(w.message)]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_checkpoints(here, share):
    file = f"{EXPORTED}/{CHECKPOINT}"
    content = open(file, "rb").read()
    with open(file, "wb") as out:
        out.write(content[: int(share * len(content))])
    assert "best_ema_model.pth" in error_line(here("infer.py", "--exp-dir", EXPORTED))
