"""A model as one folder with a card: written, read back everywhere, and from a Hub."""

import hashlib
import json
import re
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from lib.predictor import Predictor
from tests.helpers.commands import TINY, error_where, make_data, make_experiment, run_here
from tests.lib.scoring.test_tuning import write_tuning

EXPERIMENT = "experiments/mlic_colors/exp1"
EXPORT = ("scripts/export.py", "--format", "hub", "--exp-dir")
PICTURES = [f"data/colors/images/test{number}.png" for number in range(6)]


@pytest.fixture
def here(colors, monkeypatch, capsys):
    return lambda *command: run_here(monkeypatch, capsys, *command)


@pytest.fixture
def evaluated(colors, here):
    assert here("evaluate.py", "--exp-dir", EXPERIMENT, "--workers", "0").code == 0
    return colors


def head_and_text(folder: str) -> tuple[dict, str]:
    _, head, text = Path(folder, "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(head), text


def test_the_folder_scores_as_the_experiment(evaluated, here):
    """In every command, to the bit, without the experiment; thresholds come along."""
    write_tuning(evaluated, {"red": 0.25, "green": 0.5, "blue": 0.75})
    result = here(*EXPORT, EXPERIMENT, "--save-dir", "out/pets")
    assert result.code == 0, result.err
    assert " 0.0e+00 on 4 images" in result.out
    names = sorted(file.name for file in Path("out/pets").iterdir())
    assert names == ["README.md", "config.json", "model.safetensors"]
    assert len({file.stat().st_mode for file in Path("out/pets").iterdir()}) == 1
    expected = Predictor(EXPERIMENT, device="cpu")
    scores, heatmaps = expected(PICTURES)
    evaluated.rename("gone")
    predictor = Predictor("out/pets", device="cpu")
    assert predictor.labels == ["red", "green", "blue"]
    found = predictor(PICTURES)
    np.testing.assert_array_equal(found[0], scores)
    np.testing.assert_array_equal(found[1], heatmaps)
    assert predictor.cutoffs().values.tolist() == [0.25, 0.5, 0.75]

    command = ("evaluate.py", "--exp-dir", "out/pets", "--data", "data/colors", "--workers", "0")
    assert here(*command).code == 0
    old, new = (
        json.loads(Path(folder, "results.json").read_text()) for folder in ("gone", "out/pets")
    )
    assert old.pop("evaluation") != new["evaluation"]  # of other files
    assert {name: new[name] for name in old} == old and "tuned_cf1" in new
    assert here("infer.py", "--exp-dir", "out/pets", "--images", *PICTURES).code == 0
    flags = ("--data", "colors", "--img-size", "64", "--pos", "--max-epochs", "1", "--limit", "8")
    start = ("--pretrained-model", "out/pets", "--keep-classifiers", "--workers", "0")
    assert here("train.py", *TINY, *flags, *start, "--lr", "1e-30").code == 0
    last = torch.load(f"{EXPERIMENT}/checkpoints/last.pth", weights_only=True)
    stored = load_file("out/pets/model.safetensors")
    trained = [name for name in stored if not re.search("running|num_batches", name)]
    assert all(torch.equal(last["model"][name], stored[name]) for name in trained)


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        *("--arch test_vit", "--arch resnet18 --img-size 64", "--arch tresnet_m --img-size 64"),
        "--arch swin_tiny_patch4_window7_224 --img-size 224",
        "--arch efficientnet_lite0 --img-size 64 --embed-type text --embed-norm center --pos",
        # whose --embed-type is the default, for none has label vectors
        *("--model linear --embed-type bert", "--model csra --csra-heads 2 --embed-type bert"),
        *("--model ml_decoder --embed-type bert", "--model q2l --embed-type bert"),
    ],
)
def test_a_folder_of_each_family(tmp_path, monkeypatch, capsys, flags):
    """Small networks of all architectures and heads come back with the same scores, to the bit."""
    monkeypatch.chdir(tmp_path)
    data = make_data(tmp_path)
    np.save(data / "text.npy", np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32))
    experiment = make_experiment(tmp_path, *flags.split())
    command = ("evaluate.py", "--exp-dir", experiment, "--workers", "0")
    assert run_here(monkeypatch, capsys, *command).code == 0
    assert run_here(monkeypatch, capsys, *EXPORT, experiment, "--save-dir", "out").code == 0
    expected = Predictor(experiment, device="cpu")(PICTURES)
    experiment.rename("gone")
    (data / "text.npy").unlink()
    found = Predictor("out", device="cpu")(PICTURES)
    assert np.array_equal(found[0], expected[0]) and np.array_equal(found[1], expected[1])


def test_the_card_has_the_numbers_of_the_evaluation(evaluated, here):
    """And neither card nor settings have anything of this machine."""
    result = here(*EXPORT, EXPERIMENT, "--out", "out", "--licence", "apache-2.0")
    assert result.code == 0 and "note:" not in result.out
    settings = json.loads(Path("out/config.json").read_text())
    assert settings["config"]["data"] == "colors" and settings["labels"] == ["red", "green", "blue"]
    assert not {"cache", "workers", "resume", "pretrained_model"} & set(settings["config"])
    assert settings["thresholds"] == [0.5] * 3 and settings["tuning"] is None
    assert {"Python", "torch", "timm"} <= set(settings["versions"])
    head, text = head_and_text("out")
    results = json.loads((evaluated / "results.json").read_text())
    assert head["license"] == "apache-2.0" and head["pipeline_tag"] == "image-classification"
    metrics = head["model-index"][0]["results"][0]["metrics"]
    assert metrics[0]["value"] == pytest.approx(results["mAP"], abs=1e-4)
    assert f"| mAP | {results['mAP']:.4f} | " in text
    for label, precision in results["per_label"].items():
        assert f"| {label} | {precision:.3f} | " in text
    assert "python train.py --arch test_resnet" in text and ": red, green, blue" in text
    assert 'Predictor("out").predict(["photo.jpg"])' in text


def test_half_the_size(evaluated, here):
    for dtype in ("float32", "bfloat16"):
        assert here(*EXPORT, EXPERIMENT, "--save-dir", dtype, "--dtype", dtype).code == 0
    sizes = [Path(folder, "model.safetensors").stat().st_size for folder in ("float32", "bfloat16")]
    assert 0.5 < sizes[1] / sizes[0] < 0.52
    scores = [Predictor(folder, device="cpu")(PICTURES)[0] for folder in ("float32", "bfloat16")]
    assert 0 < np.abs(scores[0] - scores[1]).max() < 0.05
    assert "bfloat16" in head_and_text("bfloat16")[1]


def test_what_cannot_be_exported(colors, here):
    for flags, where in (
        (("--format", "hub"), f"{EXPERIMENT}/scores.npz"),  # not evaluated
        (("--format", "onnx", "--licence", "mit"), "--licence"),
    ):
        result = here("scripts/export.py", "--exp-dir", EXPERIMENT, *flags, "--save-dir", "out")
        assert error_where(result) == where and not Path("out").exists()
    assert error_where(here("scripts/report.py", "--exp-dir", "hf://me/colors")) == "--exp-dir"


def test_scores_of_other_weights_are_no_card(evaluated, here):
    results = json.loads((evaluated / "results.json").read_text())
    for evaluation in (results["evaluation"] | {"checkpoint_sha256": "0"}, None):
        (evaluated / "results.json").write_text(json.dumps(results | {"evaluation": evaluation}))
        result = here(*EXPORT, EXPERIMENT, "--save-dir", "out")
        assert error_where(result) == f"{EXPERIMENT}/results.json" and not Path("out").exists()


def test_the_card_names_what_was_scored(evaluated, here):
    """Other data and another threshold than those of the training, and a name for the Hub."""
    Path("data/colors").rename("data/my_colors")
    names = ("train.txt", "test.txt", "val.txt")
    for file in (Path("data/my_colors") / name for name in names):
        if file.exists():
            file.write_text(file.read_text().replace("data/colors/", "data/my_colors/"))
    flags = ("--data", "my_colors", "--threshold", "0.7", "--workers", "0")
    assert here("evaluate.py", "--exp-dir", EXPERIMENT, *flags).code == 0
    images = ("--images", "data/my_colors/images/test0.png")
    name = ("--name", "hf://me/colors")
    assert here(*EXPORT, EXPERIMENT, "--save-dir", "out", *name, *images).code == 0
    head, text = head_and_text("out")
    assert head["datasets"] == ["my_colors"] and head["model-index"][0]["name"] == "me/colors"
    assert "a score of 0.7" in text and "my\\_colors" in text
    assert 'Predictor("hf://me/colors")' in text and "# me/colors\n" in text
    assert "license" not in head


def test_examples_need_heatmaps_of_test_images(evaluated, here):
    result = here(*EXPORT, EXPERIMENT, "--save-dir", "out", "--examples")
    assert error_where(result) == "--examples" and not Path("out").exists()
    boxes = {
        path: [{"label": label, "box": [0, 0, 9, 9]} for label in ("red", "green", "blue")]
        for path in (f"data/colors/images/test{number}.png" for number in range(24))
    }
    Path("data/colors/boxes.json").write_text(json.dumps(boxes))
    assert here("evaluate.py", "--exp-dir", EXPERIMENT, "--workers", "0").code == 0
    assert here(*EXPORT, EXPERIMENT, "--save-dir", "out", "--examples").code == 0
    text = head_and_text("out")[1]
    assert "](example1.jpg)" in text and "(evidence)" in text
    assert Path("out/example2.jpg").exists()


def lie(file: Path) -> None:
    """A header that names more numbers than the file has."""
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    name = next(name for name in header if name != "__metadata__")
    header[name]["shape"] = [10**9]
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def change(file: Path, **values) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize(
    "file, harm",
    [
        ("model.safetensors", lie),
        ("model.safetensors", lambda file: file.write_bytes(file.read_bytes()[:-9])),
        ("model.safetensors", lambda file: save_file({"a": torch.zeros(2)}, file)),
        ("config.json", Path.unlink),
        ("config.json", lambda file: file.write_text("{}")),
        ("config.json", lambda file: change(file, labels=["red", "green"])),
        ("config.json", lambda file: change(file, tuning=[])),
    ],
)
def test_damaged_folders(evaluated, here, file, harm):
    assert here(*EXPORT, EXPERIMENT, "--save-dir", "out").code == 0
    harm(Path("out", file))
    where = error_where(here("infer.py", "--exp-dir", "out", "--images", *PICTURES))
    assert where in (f"out/{file}", "out/model.safetensors")
    assert not Path("out/visualization").exists()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A server that answers as the Hub does; `repos` are {name: {file: content}}."""
    repos: dict[str, dict[str, bytes]] = {}
    calls: list[str] = []

    @Request.application
    def answer(request):
        calls.append(f"{request.method} {request.path}")
        parts = request.path.strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        name = "/".join(parts[2:4] if api else parts[:2])
        files = repos.get(name)
        if files is None:
            return Response("{}", 401, {"X-Error-Code": "RepoNotFound"})
        revision = parts[5 if api else 3] if len(parts) > (5 if api else 3) else "main"
        sha = hashlib.sha1(name.encode()).hexdigest()
        if revision not in ("main", sha):
            return Response("{}", 404, {"X-Error-Code": "RevisionNotFound"})
        if api:
            siblings = [{"rfilename": file, "size": len(files[file])} for file in files]
            return Response(json.dumps({"id": name, "sha": sha, "siblings": siblings}))
        content = files["/".join(parts[4:])]
        etag = hashlib.sha256(content).hexdigest()
        return Response(content, 200, {"ETag": f'"{etag}"', "X-Repo-Commit": sha})

    server = make_server("127.0.0.1", 0, answer, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.port}"
    values = {
        "ENDPOINT": address,
        "HUGGINGFACE_CO_URL_TEMPLATE": address + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(tmp_path / "hub-cache"),
    }
    for module in ("constants", "hf_api", "file_download"):
        for name, value in values.items():
            monkeypatch.setattr(f"huggingface_hub.{module}.{name}", value, raising=False)
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", address, raising=False)
    yield repos, calls, server
    server.shutdown()


def test_a_model_of_the_hub(evaluated, here, hub):
    """Fetched once, then read from the cache, also without a connection."""
    repos, calls, server = hub
    assert here(*EXPORT, EXPERIMENT, "--save-dir", "out").code == 0
    files = {file.name: file.read_bytes() for file in Path("out").iterdir()}
    repos["me/colors"] = files
    repos["me/pickles"] = {"config.json": b"{}", "pytorch_model.bin": b"x"}
    repos["me/other"] = {"README.md": b"x"}
    scores, _ = Predictor("out", device="cpu")(PICTURES)
    command = ("infer.py", "--exp-dir", "hf://me/colors", "--images", *PICTURES)
    result = here(*command)
    assert result.code == 0, result.err
    assert Path("experiments/hub/me--colors/visualization/index.html").exists()
    np.testing.assert_array_equal(Predictor("hf://me/colors", device="cpu")(PICTURES)[0], scores)
    assert sum("GET" in call and "model.safetensors" in call for call in calls) == 1

    for name, names in (
        *(("hf://me/pickles", "pickle"), ("hf://me/other", "model.safetensors")),
        *(("hf://me/none", "model"), ("hf://me/colors@v9", "revision")),
        ("hf://colors", "hf://user/name"),
    ):
        result = here("infer.py", "--exp-dir", name, "--images", *PICTURES)
        assert error_where(result) == name and names in result.err
    server.shutdown()
    server.server_close()
    assert here(*command).code == 0
    result = here("infer.py", "--exp-dir", "hf://me/new", "--images", *PICTURES)
    assert error_where(result) == "hf://me/new"
