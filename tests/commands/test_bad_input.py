"""Bad input: exit code 2, one line that names the thing and the remedy, nothing half-written."""

import json
import re
import shutil

import numpy as np
import pytest
import torch

from lib.common.errors import UserError
from tests.helpers.commands import ROOT, TINY, error_line, make_data, run, run_here

TRAIN = (*TINY, "--data", "colors", "--batch-size", "4", "--max-epochs", "1")


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """Runs a command in a fresh folder with data/colors, and gives its error line."""
    monkeypatch.chdir(tmp_path)
    make_data(tmp_path)

    def failing(*command):
        return error_line(run_here(monkeypatch, capsys, *command))

    failing.data = tmp_path / "data" / "colors"
    failing.succeed = lambda *command: run_here(monkeypatch, capsys, *command)
    return failing


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--data voc2007", "data/voc2007: no such data folder; make it with: python scripts/voc"),
        ("--data voc2007/", "data/voc2007: no such data folder; make it with: python scripts/voc"),
        ("--data colours", "data/colours: no such data folder; did you mean colors?"),
        ("--arch resnet11", "--arch resnet11: no such architecture; did you mean resnet"),
        ("--img-size 30 --arch test_vit", "--img-size 30: test_vit cannot take it"),
        ("--num-heads 7", "--num-heads 7: does not divide the backbone's"),
        (
            "--output-stride 16 --arch test_vit --img-size 160",
            "--output-stride 16: test_vit cannot",
        ),
        ("--output-stride 5", "--output-stride 5: test_resnet cannot take it"),
        ("--embed-type bert", "colors/bert.npy: no such file"),
        ("--weights gone.pth", "--weights gone.pth: no such file"),
        ("--weights data/colors/label.txt", "label.txt: not a readable weight file"),
        ("--pretrained-model gone", "gone: no such checkpoint"),
        ("--lr nan", "--lr nan: must be more than 0"),
        ("--batch-size 0", "--batch-size 0: must be 1 or more"),
        ("--max-epochs 0", "--max-epochs 0"),
        ("--device cuda", "--device cuda: "),
        ("--batch-size 5", "--batch-size 5: leaves one image at a time"),
        ("--arch resnet18.nosuchtag", "--arch resnet18.nosuchtag: Invalid pretrained tag"),
        ("--arch crossvit_tiny_240 --img-size 240", "crossvit_tiny_240: gives no feature map"),
        (
            "--arch test_efficientnet --output-stride 5",
            "--output-stride 5: test_efficientnet gives",
        ),
        ("--img-size 99999999999999999999", "must be 2048 or less"),
        ("--data colors/nothing", "colors/nothing: no such data folder"),
    ],
)
def test_train_flags(here, flags, says):
    if "--device cuda" in flags and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    line = here("train.py", *TRAIN, *flags.split())
    assert says in line
    assert not (here.data.parents[1] / "experiments").exists()


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("train.txt", "data/colors/images/train0.png red\n", "train.txt:1: expected 'path<TAB>"),
        ("train.txt", "a.png\trde\n", "train.txt:1: label 'rde' is not in"),
        ("train.txt", "gone.png\tred\n", "gone.png: no such image"),
        ("test.txt", "", "test.txt: no images"),
        ("label.txt", "red\nred\n", "label.txt:2: duplicate label 'red'"),
    ],
)
def test_data_files(here, file, text, says):
    (here.data / file).write_text(text)
    assert says in here("train.py", *TRAIN)
    assert not (here.data.parents[1] / "experiments").exists()


@pytest.mark.parametrize("workers", ["0", "1"])
def test_undecodable_image_is_named(here, workers):
    (here.data / "images" / "train3.png").write_text("no picture")
    line = here("train.py", *TRAIN, "--workers", workers)
    assert "data/colors/images/train3.png: not a readable image" in line


def test_pretrained_weights_without_a_network(here, monkeypatch):
    """The hub's address is one that nothing answers; the line comes within seconds."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_CACHE", "nowhere")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "nowhere")
    monkeypatch.delenv("http_proxy", raising=False)
    line = here("train.py", *TRAIN, "--arch", "resnet18", "--weights", "pretrained")
    assert "resnet18.tv_in1k are not cached and cannot be downloaded" in line
    assert "--weights PATH" in line and "--weights none" in line


def test_weights_of_another_model(here, tmp_path):
    torch.save({"conv1.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    line = here("train.py", *TRAIN, "--weights", "other.pth")
    assert "--weights other.pth: does not fit test_resnet" in line and "conv1.weight" in line


def test_weight_files_without_numbers_are_not_passed_over(here, tmp_path):
    torch.save({}, tmp_path / "empty.pth")
    assert "empty.pth: holds no tensors" in here("train.py", *TRAIN, "--weights", "empty.pth")
    torch.save({"conv1.weight": torch.tensor([float("nan")])}, tmp_path / "nan.pth")
    assert "nan.pth: holds values that are not" in here("train.py", *TRAIN, "--weights", "nan.pth")
    np.savez(tmp_path / "jax.npz", x=np.zeros(2))
    line = here("train.py", *TRAIN, "--weights", "jax.npz")
    assert "--weights jax.npz: does not fit test_resnet: has no reader" in line


def test_splits_of_which_nothing_is_known(here, tmp_path):
    data = tmp_path / "data" / "colors"
    for name in ("train", "test"):
        file = data / f"{name}.txt"
        own = file.read_text()
        paths = [line.partition("\t")[0] for line in own.splitlines()]
        file.write_text("".join(f"{path}\t?red,?green,?blue\n" for path in paths))
        assert f"{name}.txt: no label of any image is known" in here("train.py", *TRAIN)
        file.write_text(own)


def test_non_finite_loss_is_noted_and_overwrites_nothing(here, tmp_path):
    line = here("train.py", *TRAIN, "--gamma-neg", "0", "--lamda", "1e300")
    assert re.search(r"the loss is (nan|inf) in epoch 1, step 1 .lr .*--lamda", line)
    experiment = tmp_path / "experiments" / "mlic_colors" / "exp1"
    assert "error: the loss is" in (experiment / "train.log").read_text()
    assert not (experiment / "checkpoints").exists()


def test_weights_that_a_step_has_ruined_are_not_saved(here, tmp_path):
    """Loss and gradient of that step are finite, those of the next one would not be."""
    line = here("train.py", *TRAIN, "--lr", "1e30", "--save-every", "1")
    assert "the weights have grown beyond float32 after step 1 " in line
    assert not (tmp_path / "experiments" / "mlic_colors" / "exp1" / "checkpoints").exists()


def test_non_finite_scores_are_no_best_model(here, tmp_path):
    """Weights may be finite and overflow only in eval mode."""
    line = here("train.py", *TRAIN, "--lr", "1e30", "--pct-start", "0.99", "--ema-decay", "0")
    assert "the model's scores are not finite" in line or "the loss is" in line
    assert not (tmp_path / "experiments" / "mlic_colors" / "exp1" / "checkpoints").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    make_data(folder)
    result = run("train.py", *TRAIN, cwd=folder)
    assert result.code == 0, result.err
    return folder


@pytest.fixture
def copy(trained, tmp_path, monkeypatch):
    """A fresh copy of a trained working folder to spoil; gives its experiment."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "experiments" / "mlic_colors" / "exp1"


def change_checkpoint(experiment, change):
    file = experiment / "checkpoints" / "best_ema_model.pth"
    content = torch.load(file)
    change(content)
    torch.save(content, file)


def drop_weight(content):
    del content["model"]["head.object_classifier.weight"]


def grow_weight(content):
    content["model"]["head.object_classifier.weight"] = torch.zeros(9, 9)


def flatten_embeddings(content):
    content["config"]["embed_type"] = "bert"
    content["model"]["head.label_embeddings"] = torch.zeros(5)


def sparse_weight(content):
    content["model"]["head.object_classifier.weight"] = torch.zeros(3, 3).to_sparse()


def other_arch(content):
    content["config"]["arch"] = "resnet18"


def bad_lr(content):
    content["config"]["lr"] = "fast"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (drop_weight, "it lacks head.object_classifier.weight"),
        (
            grow_weight,
            "head.object_classifier.weight is float32 (9, 9), expected",
        ),
        (other_arch, "a checkpoint of another"),
        (flatten_embeddings, "no label_embeddings (C, T)"),
        (sparse_weight, "values that are not plain tensors"),
        (lambda content: content.update(labels=[1, 2, 3]), "its labels are not text"),
        (bad_lr, "best_ema_model.pth: lr: 'fast' is not of type float"),
        (lambda content: content.pop("labels"), "expected model, labels and config"),
        (lambda content: content["labels"].append("more"), "number of labels"),
    ],
)
@pytest.mark.parametrize("command", ["evaluate.py", "infer.py"])
def test_checkpoints_that_do_not_fit(copy, monkeypatch, capsys, command, change, says):
    change_checkpoint(copy, change)
    line = error_line(run_here(monkeypatch, capsys, command, "--exp-dir", str(copy)))
    assert says in line and "best_ema_model.pth" in line


def test_experiment_folders_without_a_checkpoint(copy, monkeypatch, capsys):
    for command in ("evaluate.py", "infer.py"):
        result = run_here(monkeypatch, capsys, command, "--exp-dir", "gone")
        assert "--exp-dir gone: no such folder" in error_line(result)
        result = run_here(monkeypatch, capsys, command, "--exp-dir", "data")
        assert "data/config.yaml is missing" in error_line(result)
    for file in (copy / "config.yaml", copy / "checkpoints" / "best_ema_model.pth"):
        content = file.read_bytes()
        file.unlink()
        result = run_here(monkeypatch, capsys, "evaluate.py", "--exp-dir", str(copy))
        assert f"{file} is missing" in error_line(result)
        file.write_bytes(content)


def test_truncated_and_hostile_checkpoints(copy, monkeypatch, capsys, tmp_path):
    file = copy / "checkpoints" / "best_ema_model.pth"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    result = run_here(monkeypatch, capsys, "evaluate.py", "--exp-dir", str(copy))
    assert "best_ema_model.pth: no checkpoint of plain tensors" in error_line(result)

    class Harm:
        def __reduce__(self):
            return open, (str(tmp_path / "harm"), "w")

    torch.save({"model": Harm()}, file)
    result = run_here(monkeypatch, capsys, "evaluate.py", "--exp-dir", str(copy))
    assert "no checkpoint of plain tensors" in error_line(result)
    assert not (tmp_path / "harm").exists()


def test_data_of_another_label_list(copy, monkeypatch, capsys, tmp_path):
    (tmp_path / "data" / "colors" / "label.txt").write_text("red\nblue\ngreen\n")
    for command in ("evaluate.py", "infer.py"):
        result = run_here(monkeypatch, capsys, command, "--exp-dir", str(copy))
        assert "was trained on" in error_line(result)
    assert not (copy / "results.json").exists()


def test_boxes_for_other_images(copy, monkeypatch, capsys, tmp_path):
    boxes = {"other.png": [{"label": "red", "box": [0, 0, 1, 1], "difficult": False}]}
    (tmp_path / "data" / "colors" / "boxes.json").write_text(json.dumps(boxes))
    result = run_here(monkeypatch, capsys, "evaluate.py", "--exp-dir", str(copy))
    assert "boxes.json has no box" in error_line(result)
    assert not (copy / "results.json").exists()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--images gone.jpg", "--images gone.jpg: no such file"),
        ("--images empty", "--images empty: no image in this folder"),
        ("--images data/colors/label.txt", "label.txt: not a readable image"),
        ("--threshold 1.5", "1.5: must be between 0 and 1"),
        ("--limit 0", "0: must be 1 or more"),
    ],
)
def test_infer_flags(copy, monkeypatch, capsys, tmp_path, flags, says):
    (tmp_path / "empty").mkdir()
    command = ("infer.py", "--exp-dir", str(copy), "--workers", "0", *flags.split())
    assert says in error_line(run_here(monkeypatch, capsys, *command))
    assert not (copy / "visualization").exists()
    assert not [path for path in copy.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("kilobytes", [4, 100, 3000, 12000])
def test_a_full_disk_names_the_file(tmp_path, kilobytes):
    """A limit on the size of files stands in for the full disk."""
    make_data(tmp_path)
    code = (
        "import resource, runpy, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({kilobytes * 1024},) * 2)\n"
        f"sys.argv = {['train.py', *TRAIN]!r}\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        f"runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')\n"
    )
    assert "cannot be written: File too large" in error_line(run("-c", code, cwd=tmp_path))
    checkpoints = tmp_path / "experiments" / "mlic_colors" / "exp1" / "checkpoints"
    assert all(not path.name.startswith(".") for path in checkpoints.iterdir())


def test_evaluation_that_cannot_write_writes_nothing(copy, monkeypatch, capsys):
    def full(*arguments, **options):
        raise UserError("scores.npz: cannot be written: No space left on device")

    monkeypatch.setattr("lib.inference.evaluate.write_npz", full)
    error_line(run_here(monkeypatch, capsys, "evaluate.py", "--exp-dir", str(copy)))
    assert not (copy / "results.json").exists() and not (copy / "result.txt").exists()


@pytest.mark.parametrize("script", ["digits.py", "voc2007.py"])
@pytest.mark.parametrize("save_dir", ["", "a\tb"])
def test_places_that_no_list_can_name(here, script, save_dir):
    assert "must be a path without tab" in here(f"scripts/{script}", "--save-dir", save_dir)


def test_a_bug_keeps_its_traceback(here, monkeypatch):
    monkeypatch.setattr("lib.config.Config.flags", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        here.succeed("train.py")
