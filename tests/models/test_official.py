"""Published names and forms, both ways."""

import pytest
import torch

from models.backbones import build_backbone
from models.classifier import Classifier
from models.official import from_published, is_published, own_name, to_published
from models.registry import find_arch
from tests.helpers import goldens
from tests.helpers.twins import literal_position

PUBLISHED_ARCHS = goldens.shapes("arch_keys")


def model(arch="test_resnet", size=32, learned=False):
    backbone = build_backbone(arch, find_arch(arch), image_size=size)
    return Classifier(backbone, "mlic", 3, label_embeddings=None if learned else torch.zeros(3, 12))


def randomize(model):
    """Gives every norm its own statistics and scales, negative ones among them."""
    torch.manual_seed(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                module.weight.normal_()
                module.bias.normal_()
    return model.eval()


@pytest.mark.parametrize("arch", [*PUBLISHED_ARCHS, "vit_large_patch16_224_in21k"])
def test_names_and_shapes_of_every_architecture(arch):
    """On the meta device: names and shapes without the weights."""
    names = PUBLISHED_ARCHS[arch if arch in PUBLISHED_ARCHS else "vit_large_patch16_224"]
    side = find_arch(arch).image_sides[-1] if "swin" in arch else 448
    with torch.device("meta"):
        backbone = build_backbone(arch, find_arch(arch), image_size=side, drop_class_token=True)
        model = Classifier(backbone, "mlic", 20, {"pos": True}, torch.zeros(20, 768))
        published = to_published(model)
    assert {name: list(tensor.shape) for name, tensor in published.items()} == {
        f"module.{name}": shape for name, shape in names.items()
    }
    own = from_published(published, model)
    assert {name: tensor.shape for name, tensor in own.items()} == {
        name: tensor.shape for name, tensor in model.state_dict().items()
    }


@pytest.mark.parametrize("arch", ["test_resnet", "test_vit", "tresnet_m", "swin_tiny"])
def test_a_model_comes_back_with_the_same_outputs(arch):
    """TResNet's norms of negative scale among them, which the published form cannot hold."""
    name = {"swin_tiny": "swin_tiny_patch4_window7_224"}.get(arch, arch)
    size = {"test_vit": 160, "swin_tiny": 224}.get(arch, 64)
    source, target = randomize(model(name, size)), model(name, size).eval()
    state = from_published(to_published(source), target)
    target.load_state_dict(state)
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        for found, expected in zip(target(images), source(images), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_scales_of_a_tresnet_count_as_their_size_and_an_offset():
    target = model("tresnet_m", 64)
    published = to_published(target)
    name = "module.backbone.body.layer1.0.conv1.1.weight"
    published[name] = torch.linspace(-1, 1, len(published[name]))
    own = from_published(published, target)[own_name(name)]
    torch.testing.assert_close(own, published[name].abs() + 1e-5, atol=1e-8, rtol=0)
    with torch.no_grad():  # below the least that the form has
        target.backbone.trunk.body.layer1[0].conv1.bn.weight.fill_(4e-6)
    published = to_published(target)
    assert not published[name].any()
    own = from_published(published, target)[own_name(name)]
    torch.testing.assert_close(own, torch.full_like(own, 1e-5), atol=1e-8, rtol=0)


def test_what_is_computed_is_exported_as_computed():
    """The position code, also of a model without, and Swin's attention masks."""
    source = model("swin_tiny_patch4_window7_224", 448)
    published = to_published(source)
    code = torch.from_numpy(literal_position(14, 14, 768)).float()
    found = published["module.position_embedding.pe"].flatten(2)[0].mT
    torch.testing.assert_close(found, code, atol=1e-5, rtol=0)
    mask = published["module.backbone.layers.0.blocks.1.attn_mask"]
    assert set(mask.unique().tolist()) == {-100.0, 0.0}
    assert torch.equal(mask, source.backbone.trunk.layers[0].blocks[1].attn_mask)


def test_stored_position_indices_of_a_swin_are_used():
    target = model("swin_tiny_patch4_window7_224", 224).eval()
    published = to_published(target)
    name = "module.backbone.layers.0.blocks.0.attn.relative_position_index"
    images = torch.randn(1, 3, 224, 224)
    before = target(images).logits
    published[name] = published[name].flip(0)
    target.load_state_dict(from_published(published, target))
    assert not torch.allclose(target(images).logits, before, atol=1e-5)
    del published[name]
    assert own_name(name) in from_published(published, target)


def test_what_has_no_use_is_left_out_but_for_the_encoder():
    target = model()
    published = to_published(target)
    published["module.backbone.head.weight"] = torch.ones(2)
    published["module.something"] = torch.ones(2)
    assert set(from_published(published, target)) == set(target.state_dict())
    published["module.encoder.layers.1.norm1.weight"] = torch.ones(2)
    extra = set(from_published(published, target)) - set(target.state_dict())
    assert extra == {"head.encoder.1.attention_norm.weight"}


def test_missing_names_stay_missing():
    target = model(learned=True)
    published = to_published(target)
    for name in ("module.embeddings", "module.fc.bias", "module.backbone.layer1.0.conv1.weight"):
        assert name in published
        rest = {other: tensor for other, tensor in published.items() if other != name}
        missing = set(target.state_dict()) - set(from_published(rest, target))
        assert missing == {own_name(name)}


def test_forms_are_told_apart():
    assert is_published({"module.fc.bias": torch.ones(1)})
    assert not is_published({"model": {}, "labels": [], "config": {}})
    assert not is_published({})
