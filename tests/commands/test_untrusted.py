"""Files that want to run code, take the memory, or lead out of the experiment folder."""

import ast
import io
import re
import socket
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lib.common.errors import UserError
from lib.common.readers import read_array
from lib.config import Config
from lib.data.sources import read_source
from lib.data.sources.folders.voc import read_objects
from lib.experiment import loading
from lib.experiment.checkpoint import read_tensors
from models import ModelError
from models.weights import pretrained_weights, read_weights
from tests.helpers.commands import RUN, TINY, TRAIN, inside
from tests.helpers.damage import Harm, put, time_limit
from tests.helpers.fork_server import ROOT

CODE = sorted(ROOT.glob("*.py")) + [
    path
    for folder in ("lib", "models", "scripts", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def test_nothing_is_read_in_a_way_that_could_run_code():
    for file in CODE:
        for node in ast.walk(ast.parse(file.read_text())):
            assert is_safe(node, file), f"{file}:{node.lineno}"


def is_safe(node: ast.AST, file: Path) -> bool:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        names = [alias.name for alias in node.names] + [getattr(node, "module", None)]
        return not {"pickle", "dill", "joblib", "marshal", "shelve"} & set(names)
    if not isinstance(node, ast.Call):
        return True
    name = ast.unparse(node.func)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if name in ("torch.load", "timm.models.load_state_dict"):
        return given["weights_only"] == "True"
    if name in ("np.load", "numpy.load"):
        return given["allow_pickle"] == "False"
    if name.startswith("yaml.") and "load" in name:
        return name == "yaml.safe_load" or given["Loader"] == "yaml.BaseLoader"
    if name.endswith("Environment"):
        return given["autoescape"] == "True"
    if name == "ForkingPickler.loads":  # what this process's own workers send
        return file.stem == "workers"
    runs_code = ("eval", "exec", "os.system", "pickle.load", "pickle.loads", "Markup")
    return name not in runs_code and not {"shell", "trust_remote_code"} & given.keys()


def test_pages_escape_everything():
    for page in (ROOT / "lib" / "common" / "templates").iterdir():
        text = page.read_text(encoding="utf-8")
        if page.suffix != ".md":
            unsafe = r"\|\s*safe\b|autoescape\s+false|Markup|innerHTML|document\.write"
            assert not re.search(unsafe, text), page
            assert not re.search(r"""(src|href)\s*=\s*["']https?:""", text), page


def pickled(content, **options):
    return lambda file: torch.save(content, file, **options)


def compressed(file):
    """PyTorch would unpack a file of some kilobytes to any size."""
    whole = io.BytesIO()
    torch.save({"model": {"w": torch.zeros(10**7)}}, whole)
    with zipfile.ZipFile(whole) as parts, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
        for part in parts.infolist():
            out.writestr(part.filename, parts.read(part))


def promises(*shape):
    """An array whose header says more than it holds."""

    def write(file):
        with open(file, "wb") as out:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(out, header)
            out.write(bytes(100))

    return write


def xml(entities, name):
    body = f"<annotation><object><name>&{name};</name></object></annotation>"
    return lambda file: file.write_text(f"<!DOCTYPE annotation [{entities}]>{body}")


HARM = {"model": Harm(), "labels": [], "config": {}}
MANY, SHARED = torch.zeros(1).expand(10**6, 10**6), torch.zeros(10_000)
LAUGHS = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(12))
UNSAFE = [
    ("a.pth", pickled(HARM), read_tensors),
    ("a.pth", pickled(HARM), read_weights),
    ("a.pth", pickled(HARM, _use_new_zipfile_serialization=False), read_tensors),
    ("a.pth", pickled(HARM, _use_new_zipfile_serialization=False), read_weights),
    ("a.npy", lambda file: np.save(file, np.array([Harm()], object)), read_array),
    ("a.pth", pickled({"model": {"w": MANY}, "labels": [], "config": {}}), read_tensors),
    ("a.pth", pickled({"w": MANY}), read_weights),
    ("a.pth", pickled({"model": {str(n): SHARED for n in range(1000)}}), read_tensors),
    ("a.pth", pickled({}), read_weights),
    ("a.pth", pickled({"conv1.weight": torch.tensor([torch.nan])}), read_weights),
    ("a.pth", compressed, read_tensors),
    ("a.pth", compressed, read_weights),
    ("a.npz", lambda file: np.savez_compressed(file, w=np.zeros(10**6)), read_weights),
    *(("a.npy", promises(*one), read_array) for one in ((10**12,), (10**6, 10**6), (2**62, 4))),
    ("a.npy", promises(-1, 4), read_array),
    ("a.xml", xml(f'<!ENTITY e0 "ha">{LAUGHS}', "e12"), read_objects),
    ("a.xml", xml(f'<!ENTITY e0 "ha">{LAUGHS}', "e12"), lambda file: read_source(file.parent)),
    ("a.xml", xml('<!ENTITY e SYSTEM "file:///etc/hostname">', "e"), read_objects),
]


@pytest.mark.parametrize("name, write, read", UNSAFE)
def test_unsafe_files_are_refused(tmp_path, monkeypatch, name, write, read):
    """They run nothing, and take no memory or time."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / name
    write(file)
    assert file.stat().st_size < 100_000
    with time_limit(), pytest.raises((UserError, ModelError)) as error:
        read(file)
    assert str(error.value).startswith((f"{file}: ", f"--weights {file}: "))
    assert not Path("harm").exists()
    hostname = Path("/etc/hostname")
    assert not hostname.exists() or hostname.read_text().strip() not in str(error.value)


def test_a_pickle_in_the_cache_of_the_hub_is_refused(tmp_path, monkeypatch):
    """Older versions of timm would unpickle it."""
    monkeypatch.chdir(tmp_path)
    torch.save({"w": Harm()}, "pytorch_model.bin")
    cached = str(tmp_path / "pytorch_model.bin")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: cached)
    with pytest.raises(ModelError, match=f"--weights {cached}: "):
        pretrained_weights("resnet18.tv_in1k")
    assert not Path("harm").exists()


def test_yaml_that_multiplies_or_names_code_is_text(tmp_path):
    lines = ["a0: &a0 ha"]
    lines += [f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]" for n in range(12)]
    lines += ["arch: !!python/object/apply:os.system ['touch harm']", "data: '[" + "[" * 9999]
    (tmp_path / "config.yaml").write_text("\n".join(lines))
    with time_limit():
        config = Config.load(tmp_path / "config.yaml")
    assert config.arch.startswith("!!python/object/apply") and config.seed == 0


@pytest.mark.parametrize(
    "change",
    [
        {"arch": "vit_giant_patch14_224", "img_size": 224},
        {"num_layers": 64},
        {"labels": [str(number) for number in range(10**5)]},
    ],
)
def test_a_checkpoint_of_a_larger_model_takes_no_memory(home, monkeypatch, change):
    """What does not fit is reported before anything but its form is built."""
    build, built = loading.build_model, []

    def build_form(*arguments, **options):
        assert torch.get_default_device().type == "meta"
        built.append(arguments[0].arch)
        return build(*arguments, **options)

    monkeypatch.setattr(loading, "build_model", build_form)
    file = Path(RUN, "checkpoints", "best_ema_model.pth")
    for name, value in change.items():
        put(value, *(() if name == "labels" else ("config",)), name)(file)
    home.refused(file, f"evaluate.py --exp-dir {RUN}")
    assert len(built) == 1


def test_nothing_is_fetched(home, monkeypatch):
    """Any attempt to reach another machine, or to look up its name, would fail these commands."""

    def refuse(*arguments, **options):
        raise AssertionError(f"the network was asked for: {arguments}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    home(f"{TRAIN} --max-epochs 1")
    for command in ("evaluate.py", "infer.py"):
        home(f"{command} --workers 0 --exp-dir {RUN}")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(AssertionError, match="the network was asked for"):
        home.run(f"{TRAIN} --arch resnet18 --weights pretrained")


def test_pretrained_weights_without_a_network(home, monkeypatch):
    """The hub's address is one that nothing answers; the line comes within seconds."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_CACHE", "nowhere")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "nowhere")
    monkeypatch.delenv("http_proxy", raising=False)
    line = home.refused("--weights pretrained", f"{TRAIN} --arch resnet18 --weights pretrained")
    assert "--weights PATH" in line and "--weights none" in line


# hostile names of labels and pictures
DATA = "<b>&'\""
LABELS = [
    *("<script>alert(1)</script>", "../../../escaped", "\U0001f600\u202e", "y" * 300),
    *("\x9b2J\x9b31m", "'\"><img src=x onerror=alert(1)>"),
]
PICTURES = [
    *("<script>alert(1)<", "..", "\U0001f600", "x" * 150, "\x1b[31mred", "'\"&amp; onerror=x"),
]


@pytest.fixture(scope="module")
def made_hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile") / "work"
    images = folder / "data" / DATA / "images"
    images.mkdir(parents=True)
    random, lines = np.random.default_rng(0), []
    for number, name in enumerate(PICTURES):
        path = images / f"{name}{number}.png"
        Image.fromarray(random.integers(0, 255, (40, 40, 3), np.uint8)).save(path)
        lines.append(f"{path.relative_to(folder)}\t{LABELS[number]}\n")
    for split in ("train", "test"):
        (images.parent / f"{split}.txt").write_text("".join(lines))
    (images.parent / "label.txt").write_text("\n".join(LABELS) + "\n")
    with inside(folder) as here:
        here(f"train.py {' '.join(TINY)} --batch-size 4 --max-epochs 1 --data", DATA)
    return folder


def tree(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_hostile_names_are_escaped_and_stay_inside(made_hostile, monkeypatch, commands):
    monkeypatch.chdir(made_hostile)
    before = tree(made_hostile.parent)
    experiment = made_hostile / "experiments" / f"mlic_{DATA}" / "exp1"
    for command in ("evaluate.py", "infer.py"):
        out = commands(f"{command} --workers 0 --threshold 0 --exp-dir", experiment).out
        assert not {"\x1b", "\x9b", "\u202e"} & set(out)
    added = tree(made_hostile.parent) - before
    inside_it = experiment.relative_to(made_hostile.parent).as_posix() + "/"
    assert len(added) > 10 and all(path.startswith(inside_it) for path in added)
    pages = [page.read_text(encoding="utf-8") for page in experiment.rglob("*.html")]
    unsafe = r"<script>alert|<img src=x|mlic_<b>|data/<b>"
    assert pages and not any(re.search(unsafe, page) for page in pages)
    log = (experiment / "train.log").read_text(encoding="utf-8")
    assert "\x9b" not in log and len(log.splitlines()) < 12


def test_pictures_have_room_beside_long_labels(
    made_hostile, tmp_path, monkeypatch, commands, recwarn
):
    monkeypatch.chdir(made_hostile)
    out = commands("scripts/inspect_data.py --data", DATA, "--save-dir", tmp_path).out
    assert "\x1b" not in out and tree(tmp_path) == {"labels.png", "cooccurrence.png"}
    assert not [str(one.message) for one in recwarn if "collapsed" in str(one.message)]
