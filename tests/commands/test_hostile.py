"""Files that want to run code, take the memory, or lead out of the experiment folder."""

import ast
import io
import re
import shutil
import socket
import sys
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from lib.common.errors import UserError
from lib.common.readers import read_array
from lib.config import Config
from lib.data.sources import read_source
from lib.data.sources.folders.voc import read_objects
from lib.experiment.checkpoint import read_tensors
from lib.experiment.loading import load_experiment
from lib.runtime.world import World
from models import ModelError
from models.weights import pretrained_weights, read_weights
from tests.helpers.commands import ROOT, TINY, run_here
from tests.helpers.fuzzing import time_limit

CODE = [
    *sorted(ROOT.glob("*.py")),
    *(
        path
        for folder in ("lib", "models", "scripts", "benchmarks")
        for path in sorted((ROOT / folder).rglob("*.py"))
    ),
]


@pytest.mark.parametrize("file", CODE, ids=lambda path: path.stem)
def test_nothing_is_read_in_a_way_that_could_run_code(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None)]
            assert not {"pickle", "dill", "joblib", "marshal", "shelve"} & set(names)
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if name in ("torch.load", "timm.models.load_state_dict"):
            assert given["weights_only"] == "True", f"{file}:{node.lineno}"
        if name in ("np.load", "numpy.load"):
            assert given["allow_pickle"] == "False", f"{file}:{node.lineno}"
        if name.startswith("yaml.") and "load" in name:
            assert name == "yaml.safe_load" or given["Loader"] == "yaml.BaseLoader"
        if name.endswith("Environment"):
            assert given["autoescape"] == "True", f"{file}:{node.lineno}"
        assert given.get("shell") is None and "trust_remote_code" not in given
        assert name not in ("eval", "exec", "os.system", "pickle.load", "pickle.loads", "Markup")
        # what this process's own workers send
        assert name != "ForkingPickler.loads" or file.stem == "workers"


TEMPLATES = ROOT / "lib" / "common" / "templates"


@pytest.mark.parametrize(
    "page", sorted({*TEMPLATES.iterdir()} - {*TEMPLATES.glob("*.md")}), ids=str
)
def test_pages_escape_everything(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"\|\s*safe\b|autoescape\s+false|Markup|innerHTML|document\.write", text)
    assert not re.search(r"""(src|href)\s*=\s*["']https?:""", text)


class Harm:
    """Makes a file when it is unpickled."""

    def __init__(self, file):
        self.file = str(file)

    def __reduce__(self):
        return open, (self.file, "w")


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    harm = tmp_path / "harm"
    content = {"model": Harm(harm), "labels": [], "config": {}}
    torch.save(content, tmp_path / "new.pth")
    torch.save(content, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    np.save(tmp_path / "a.npy", np.array([Harm(harm)], object), allow_pickle=True)
    for name in ("new.pth", "old.pth"):
        with pytest.raises(UserError, match="no checkpoint of plain tensors"):
            read_tensors(tmp_path / name)
        with pytest.raises(ModelError, match="not a readable weight file"):
            read_weights(tmp_path / name)
    with pytest.raises(UserError, match="not a readable .npy"):
        read_array(tmp_path / "a.npy")
    assert not harm.exists()


def test_a_pickle_in_the_cache_of_the_hub_is_refused(tmp_path, monkeypatch):
    """Older versions of timm would unpickle it."""
    torch.save({"w": Harm(tmp_path / "harm")}, tmp_path / "pytorch_model.bin")
    cached = str(tmp_path / "pytorch_model.bin")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: cached)
    with pytest.raises(ModelError, match="not a readable weight file"):
        pretrained_weights("resnet18.tv_in1k")
    assert not (tmp_path / "harm").exists()


def test_few_numbers_that_pose_as_many_are_refused(tmp_path):
    file = tmp_path / "a.pth"
    many = {"model": {"w": torch.zeros(1).expand(10**6, 10**6)}, "labels": [], "config": {}}
    torch.save(many, file)
    assert file.stat().st_size < 10_000
    with pytest.raises(UserError, match="a.pth: holds values that are not plain tensors"):
        read_tensors(file)
    with pytest.raises(ModelError, match="not plain, finite"):
        torch.save({"w": torch.zeros(1).expand(10**6, 10**6)}, file)
        read_weights(file)
    shared = torch.zeros(10_000)
    torch.save({"model": {str(number): shared for number in range(1000)}}, file)
    with pytest.raises(UserError, match="its tensors claim more numbers than it holds"):
        read_tensors(file)


def test_compressed_checkpoints_are_refused(tmp_path):
    """PyTorch would unpack a file of some kilobytes to any size."""
    whole = io.BytesIO()
    torch.save({"model": {"w": torch.zeros(10**7)}}, whole)
    with (
        zipfile.ZipFile(whole) as parts,
        zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for part in parts.infolist():
            packed.writestr(part.filename, parts.read(part))
    assert (tmp_path / "a.pth").stat().st_size < 100_000
    with pytest.raises(UserError, match="a.pth: no checkpoint of plain tensors"):
        read_tensors(tmp_path / "a.pth")
    for name in ("a.pth", "a.npz"):
        if name == "a.npz":
            np.savez_compressed(tmp_path / name, w=np.zeros(10**6))
        with pytest.raises(ModelError, match=f"{name}: not a readable weight file"):
            read_weights(tmp_path / name)


@pytest.mark.parametrize("shape", [(10**12,), (10**6, 10**6), (2**62, 4), (-1, 4)])
def test_arrays_that_promise_more_than_they_hold_are_refused(tmp_path, shape):
    with open(tmp_path / "a.npy", "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(100))
    with pytest.raises(UserError, match="a.npy: not a readable .npy array"):
        read_array(tmp_path / "a.npy")


def test_entities_that_multiply_are_refused(tmp_path):
    """A billion laughs."""
    entities = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(12))
    (tmp_path / "a.xml").write_text(
        f'<!DOCTYPE annotation [<!ENTITY e0 "ha">{entities}]>'
        "<annotation><object><name>&e12;</name></object></annotation>"
    )
    with time_limit(), pytest.raises(UserError, match="a.xml: not a readable annotation"):
        read_objects(tmp_path / "a.xml")
    with pytest.raises(UserError, match="a.xml: not a readable annotation"):
        read_source(tmp_path)


def test_entities_read_no_other_file(tmp_path):
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "a.xml").write_text(
        f'<!DOCTYPE annotation [<!ENTITY e SYSTEM "file://{tmp_path}/secret">]>'
        "<annotation><object><name>&e;</name></object></annotation>"
    )
    with pytest.raises(UserError) as error:
        read_objects(tmp_path / "a.xml")
    assert "secret" not in str(error.value).replace(str(tmp_path), "")


def test_yaml_that_multiplies_or_names_code_is_text(tmp_path):
    lines = ["a0: &a0 ha"]
    lines += [f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]" for n in range(12)]
    lines += ["arch: !!python/object/apply:os.system ['touch harm']", "data: '[" + "[" * 9999]
    (tmp_path / "config.yaml").write_text("\n".join(lines))
    with time_limit():
        config = Config.load(tmp_path / "config.yaml")
    assert config.arch.startswith("!!python/object/apply") and config.seed == 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An experiment on labels and pictures of hostile names."""
    folder = tmp_path_factory.mktemp("trained") / "work"
    pictures = folder / "data" / "<b>&'\"" / "images"
    pictures.mkdir(parents=True)
    names = [
        "<script>alert(1)<",
        "..",
        "\U0001f600",
        "x" * 150,
        "\x1b[31mred",
        "'\"&amp; onerror=x",
    ]
    random = np.random.default_rng(0)
    lines = []
    for number, name in enumerate(names):
        path = pictures / f"{name}{number}.png"
        Image.fromarray(random.integers(0, 255, (40, 40, 3), np.uint8)).save(path)
        lines.append(f"{path.relative_to(folder)}\t{LABELS[number]}\n")
    for split in ("train", "test"):
        (pictures.parent / f"{split}.txt").write_text("".join(lines))
    (pictures.parent / "label.txt").write_text("\n".join(LABELS) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["train.py"])
        from lib.training.fit import fit
        from lib.training.prepare import prepare

        flags = (*TINY, "--data", "<b>&'\"", "--batch-size", "4", "--max-epochs", "1")
        fit(prepare(Config.parse(flags), World(torch.device("cpu"))))
    return folder


LABELS = [
    *("<script>alert(1)</script>", "../../../escaped", "\U0001f600\u202e", "y" * 300),
    *("\x1b[2J\x1b[31m", "'\"><img src=x onerror=alert(1)>"),
]


PICTURES = {"labels.png", "cooccurrence.png"}


def tree(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_hostile_names_are_escaped_and_stay_inside(trained, tmp_path, monkeypatch, capsys):
    shutil.copytree(trained, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    before = tree(tmp_path)
    experiment = tmp_path / "work" / "experiments" / "mlic_<b>&'\"" / "exp1"
    inside = experiment.relative_to(tmp_path).as_posix() + "/"
    for command in ("evaluate.py", "infer.py"):
        flags = ("--workers", "0", "--threshold", "0")
        result = run_here(monkeypatch, capsys, command, "--exp-dir", str(experiment), *flags)
        assert result.code == 0, result.err
        assert "\x1b" not in result.out and "\u202e" not in result.out
    added = tree(tmp_path) - before
    assert len(added) > 10 and all(path.startswith(inside) for path in added)
    pages = [path for path in experiment.rglob("*.html")]
    assert pages
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<script>alert|<img src=x|mlic_<b>|data/<b>", text)
    log = (experiment / "train.log").read_text(encoding="utf-8")
    assert "\x1b" not in log and len(log.splitlines()) < 12


def test_pictures_have_room_beside_long_labels(trained, tmp_path, monkeypatch, capsys, recwarn):
    monkeypatch.chdir(trained)
    flags = ("--data", "<b>&'\"", "--save-dir", str(tmp_path))
    result = run_here(monkeypatch, capsys, "scripts/inspect_data.py", *flags)
    assert result.code == 0 and "\x1b" not in result.out and tree(tmp_path) == PICTURES
    assert not [str(one.message) for one in recwarn if "collapsed" in str(one.message)]


def test_a_checkpoint_of_a_larger_model_takes_no_memory(trained, tmp_path, monkeypatch):
    """What does not fit is told before anything but its form is built."""
    experiment = tmp_path / "exp"
    shutil.copytree(trained / "experiments" / "mlic_<b>&'\"" / "exp1", experiment)
    file = experiment / "checkpoints" / "best_ema_model.pth"
    content = torch.load(file, weights_only=True)
    built = []

    def build(*arguments, **options):
        assert torch.get_default_device().type == "meta"
        built.append(arguments[0].arch)
        return original(*arguments, **options)

    from lib.experiment import loading

    original = loading.build_model
    monkeypatch.setattr(loading, "build_model", build)
    giants = ({"arch": "vit_giant_patch14_224", "img_size": 224}, {"num_layers": 64})
    for changes in giants:
        torch.save({**content, "config": {**content["config"], **changes}}, file)
        with pytest.raises(UserError, match="a checkpoint of another"):
            load_experiment(experiment)
    torch.save({**content, "labels": [str(number) for number in range(10**5)]}, file)
    with pytest.raises(UserError, match="number of labels"):
        load_experiment(experiment)
    assert len(built) == 3


def odd(model, name, value):
    return {"model": {**model, name: value}}


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda m: {"labels": ["a\nb", *LABELS[1:]]}, r"labels\[0\]: label 'a.nb': no comma, tab"),
        (lambda m: {"labels": ["a"] * 6}, r"labels\[1\]: duplicate label 'a'"),
        (lambda m: odd(m, 5, torch.zeros(1)), "model: 5 is no plain tensor by name"),
        (
            lambda m: odd(m, "a", torch.zeros(2, dtype=torch.uint8).view(torch.float8_e4m3fn)),
            "holds values that are not plain tensors",
        ),
        (
            lambda m: odd(m, "head.inter_modal.score.bias", torch.tensor([torch.nan])),
            "head.inter_modal.score.bias holds numbers that are not finite",
        ),
        (
            lambda m: odd(m, "head.inter_modal.score.bias", torch.tensor([1])),
            r"head.inter_modal.score.bias is int64 \(1,\), expected float32",
        ),
    ],
)
def test_parts_of_checkpoints_that_are_none(trained, tmp_path, change, says):
    source = trained / "experiments" / "mlic_<b>&'\"" / "exp1" / "checkpoints"
    content = torch.load(source / "best_ema_model.pth", weights_only=True)
    file = tmp_path / "a.pth"
    torch.save({**content, **change(content["model"])}, file)
    with pytest.raises(UserError, match=says) as error:
        load_experiment(file)
    assert str(error.value).count(str(file)) == 1


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"num_layers": 10**9}, "--num-layers 1000000000: must be 64 or less"),
        ({"img_size": 10**6}, "--img-size 1000000: must be 2048 or less"),
        ({"workers": 10**6}, "--workers 1000000: must be 1024 or less"),
    ],
)
def test_configs_that_ask_for_too_much_are_refused(changes, says):
    with pytest.raises(UserError, match=says):
        Config.from_dict(changes, "a.pth")


def test_nothing_is_fetched(trained, tmp_path, monkeypatch, capsys):
    """Any attempt to reach another machine, or to look up its name, would fail these commands."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)

    def refuse(*arguments, **options):
        raise AssertionError(f"the network was asked for: {arguments}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    flags = (*TINY, "--data", "<b>&'\"", "--batch-size", "4", "--max-epochs", "1")
    assert run_here(monkeypatch, capsys, "train.py", *flags).code == 0
    experiment = next((tmp_path / "experiments").glob("*/exp2"))
    for command in ("evaluate.py", "infer.py"):
        flags = ("--exp-dir", str(experiment), "--workers", "0")
        assert run_here(monkeypatch, capsys, command, *flags).code == 0
    with pytest.raises(AssertionError, match="the network was asked for"):
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        flags = ("--data", "<b>&'\"", "--arch", "resnet18", "--embed-type", "random")
        run_here(monkeypatch, capsys, "train.py", *flags, "--weights", "pretrained")


def test_a_missing_permission_is_one_line(capsys):
    """As of folders that may not be looked into, which root may."""
    from lib.common.cli import run_main

    def main():
        raise PermissionError(13, "Permission denied", "checkpoints/last.pth")

    with pytest.raises(SystemExit) as end:
        run_main(main)
    assert end.value.code == 2
    assert "error: checkpoints/last.pth: Permission denied\n" in capsys.readouterr().err
    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(UserError, match="cannot be read: Perm"),
    ):
        patch.setattr("lib.experiment.checkpoint.require_honest_size", lambda path: main())
        read_tensors(__file__)


def test_error_lines_are_short(capsys):
    from lib.common.cli import run_main

    def main():
        raise UserError("a.txt: " + "x" * 10**6)

    with pytest.raises(SystemExit):
        run_main(main)
    assert len(capsys.readouterr().err) < 3000
