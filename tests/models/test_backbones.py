"""Backbones: tokens in row-major order, grid and stride read from the model, weights that fit."""

from unittest import mock

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.nn import functional

from models.backbones import build_backbone
from models.classifier import Classifier
from models.official import to_published
from models.registry import ARCHS, find_arch, normalization
from tests.helpers.refusals import refused


def build(name, size=64, **options):
    return build_backbone(name, find_arch(name), image_size=size, **options).eval()


@pytest.mark.parametrize(
    ("name", "size", "grid", "features"),
    [
        ("resnet18", 64, (2, 2), 512),
        ("test_vit", 160, (10, 10), 64),
        ("efficientvit_b0", 64, (2, 2), 128),
        ("test_convnext", 96, (3, 3), 64),
        ("test_efficientnet", 96, (3, 3), 256),
    ],
)
def test_tokens_of_any_timm_model(name, size, grid, features):
    backbone = build(name, size)
    assert (backbone.grid, backbone.num_features) == (grid, features)
    assert backbone.stride == size / grid[0]
    tokens = backbone(torch.randn(2, 3, size, size))
    assert tokens.shape == (2, backbone.prefix_tokens + grid[0] * grid[1], features)


def test_tokens_are_row_major():
    backbone = build("resnet18", 96)
    images = torch.randn(1, 3, 96, 96)
    features = backbone.trunk.forward_features(images)
    torch.testing.assert_close(backbone(images)[0, 1 * 3 + 2], features[0, :, 1, 2])


def test_class_token_is_kept_or_dropped():
    kept, dropped = build("test_vit", 160), build("test_vit", 160, drop_class_token=True)
    dropped.trunk.load_state_dict(kept.trunk.state_dict())
    images = torch.randn(1, 3, 160, 160)
    assert kept.prefix_tokens == 1 and dropped.prefix_tokens == 0
    torch.testing.assert_close(kept(images)[:, 1:], dropped(images))


def test_output_stride_makes_a_finer_grid():
    assert build("resnet18", 64, output_stride=16).grid == (4, 4)


def test_aliases_win_over_timms_own_names():
    assert ARCHS["resnet101"].timm_name == "resnet101.tv_in1k"
    assert find_arch("resnet101") is ARCHS["resnet101"]
    resnet = find_arch("resnet101")
    assert normalization("weights", resnet) == normalization("imagenet", resnet)
    vit = find_arch("vit_base_patch16_224.augreg_in21k")
    assert normalization("weights", vit) == ((0.5,) * 3, (0.5,) * 3)


def test_weights_of_a_file_arrive(tmp_path):
    source = timm.create_model("test_resnet", num_classes=7)
    torch.save({"state_dict": source.state_dict()}, tmp_path / "weights.pth")
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    for ending in ("pth", "safetensors"):
        backbone = build("test_resnet", weights=str(tmp_path / f"weights.{ending}"))
        for name, tensor in backbone.trunk.state_dict().items():
            assert torch.equal(tensor, source.state_dict()[name]), name


def bicubic(table, prefix, side):
    """The published resizing of a position table (1, P + N, D), written out."""
    head, grid = table[:, :prefix], table[:, prefix:]
    old = round(grid.shape[1] ** 0.5)
    grid = grid.reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = functional.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
    return torch.cat([head, grid.flatten(2).mT], dim=1)


@pytest.mark.parametrize("size", [64, 160, 320])
@pytest.mark.parametrize("form", ["pth", "npz", "hub"])
def test_position_tables_are_resized_as_published(tmp_path, monkeypatch, form, size):
    """Whatever loads them: timm's own resizing differs, and its .npz loader's from that."""
    source = timm.create_model("test_vit", num_classes=7)
    file = tmp_path / f"weights.{'safetensors' if form == 'hub' else form}"
    if form == "npz":
        np.savez(file, **flax_names(source.state_dict()))
    elif form == "pth":
        torch.save(source.state_dict(), file)
    else:
        save_file(source.state_dict(), file)
        cached = mock.Mock(return_value=str(file))
        monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", cached)
    weights = "pretrained" if form == "hub" else str(file)
    backbone = build("test_vit", size, weights=weights)
    assert backbone.grid == (size // 16, size // 16)
    expected = bicubic(source.pos_embed, 1, size // 16)
    torch.testing.assert_close(backbone.trunk.pos_embed, expected)
    for part in ("blocks.0.attn.qkv.weight", "cls_token", "patch_embed.proj.weight"):
        found, given = backbone.trunk.state_dict()[part], source.state_dict()[part]
        torch.testing.assert_close(found, given)


def test_weights_of_the_hub_are_timms_own(tmp_path, monkeypatch):
    """Also of models whose publisher's file needs a reader of its own."""
    name = "vit_tiny_patch16_224.augreg_in21k"
    source = timm.create_model(name, num_classes=0)
    assert source.pretrained_cfg["custom_load"]
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    cached = mock.Mock(return_value=str(tmp_path / "model.safetensors"))
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", cached)
    trunk = build(name, 224, weights="pretrained").trunk
    assert torch.equal(trunk.pos_embed, source.pos_embed)


def flax_names(state):
    """A ViT's weights in the names and layouts of its original publisher."""
    width = state["cls_token"].shape[-1]
    heads = timm.create_model("test_vit").blocks[0].attn.num_heads
    names = {
        "cls": state["cls_token"],
        "embedding/kernel": state["patch_embed.proj.weight"].permute(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "Transformer/posembed_input/pos_embedding": state["pos_embed"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
    }
    for number in range(sum(name.endswith("attn.qkv.weight") for name in state)):
        own, block = f"blocks.{number}.", f"Transformer/encoderblock_{number}/"
        attention = block + "MultiHeadDotProductAttention_1/"
        weights = state[own + "attn.qkv.weight"].chunk(3)
        biases = state[own + "attn.qkv.bias"].chunk(3)
        for part, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            names[f"{attention}{part}/kernel"] = weight.mT.reshape(width, heads, -1)
            names[f"{attention}{part}/bias"] = bias.reshape(heads, -1)
        names[attention + "out/kernel"] = state[own + "attn.proj.weight"].mT.reshape(
            heads, -1, width
        )
        names[attention + "out/bias"] = state[own + "attn.proj.bias"]
        for index, norm in ((0, "norm1"), (2, "norm2")):
            names[f"{block}LayerNorm_{index}/scale"] = state[f"{own}{norm}.weight"]
            names[f"{block}LayerNorm_{index}/bias"] = state[f"{own}{norm}.bias"]
        for index, linear in ((0, "fc1"), (1, "fc2")):
            names[f"{block}MlpBlock_3/Dense_{index}/kernel"] = state[f"{own}mlp.{linear}.weight"].mT
            names[f"{block}MlpBlock_3/Dense_{index}/bias"] = state[f"{own}mlp.{linear}.bias"]
    return {name: tensor.numpy() for name, tensor in names.items()}


def test_weights_of_a_vit_that_pools_by_averaging(tmp_path):
    """Its norm stands behind the pooling; on patch tokens it is the last."""
    source = timm.create_model("test_vit2")
    assert "fc_norm.weight" in source.state_dict()
    with torch.no_grad():
        source.fc_norm.weight.normal_()
    torch.save(source.state_dict(), tmp_path / "vit.pth")
    trunk = build("test_vit2", 160, weights=str(tmp_path / "vit.pth")).trunk
    assert torch.equal(trunk.norm.weight, source.fc_norm.weight)


NORM, TABLE, CONVOLUTION = "norm.weight", "pos_embed", "layer1.0.conv1.weight"


@pytest.mark.parametrize(
    ("source", "name", "change", "target"),
    [
        ("test_vit", NORM, torch.Tensor.to_sparse, "test_vit"),
        ("test_vit", NORM, lambda tensor: tensor.to("meta"), "test_vit"),
        ("test_vit", NORM, torch.Tensor.int, "test_vit"),
        ("test_vit", TABLE, lambda tensor: torch.zeros(1, 13, 64), "test_vit"),
        ("test_vit", TABLE, lambda tensor: torch.zeros(1, 17, 32), "test_vit"),
        ("test_vit", "blocks.0", None, "test_convnext"),
        ("test_resnet", CONVOLUTION, None, "test_resnet"),
        ("test_resnet", CONVOLUTION, lambda tensor: torch.zeros(1, 2, 3, 3), "test_resnet"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path, source, name, change, target):
    state = timm.create_model(source).state_dict()
    if change:
        state[name] = change(state[name])
    else:
        state.pop(name, None)
    torch.save(state, tmp_path / "odd.pth")
    plain = name != NORM or change is torch.Tensor.int
    with refused(f"--weights {tmp_path / 'odd.pth'}", *([target, name] if plain else [])):
        build(target, 160, weights=str(tmp_path / "odd.pth"))


def test_weights_of_other_kinds_are_named(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros(2))
    for file in (tmp_path, tmp_path / "x.npz"):
        for arch in ("test_vit", "resnet18"):
            with refused(f"--weights {file}"):
                build(arch, 160, weights=str(file))


def test_averaged_weights_of_a_file_come_first(tmp_path):
    """As timm has it, of a training checkpoint with both."""
    raw, ema = timm.create_model("test_vit"), timm.create_model("test_vit")
    content = {"state_dict": raw.state_dict(), "state_dict_ema": ema.state_dict()}
    torch.save(content, tmp_path / "both.pth")
    trunk = build("test_vit", 160, weights=str(tmp_path / "both.pth")).trunk
    assert torch.equal(trunk.cls_token, ema.cls_token)
    assert not torch.equal(trunk.cls_token, raw.cls_token)


def test_weights_of_a_swin_under_its_publishers_names(tmp_path):
    """Downsampling ends a stage there, and computed buffers are stored."""
    source = build("swin_tiny_patch4_window7_224", 224).trunk
    state = {}
    for name, tensor in [*source.state_dict().items(), *source.named_buffers()]:
        for stage in (1, 2, 3):
            name = name.replace(f"layers.{stage}.downsample", f"layers.{stage - 1}.downsample ")
        state[name.replace("downsample ", "downsample")] = tensor
    state["head.weight"] = torch.zeros(1000, 768)
    torch.save({"model": state}, tmp_path / "swin.pth")
    backbone = build("swin_tiny_patch4_window7_224", 224, weights=str(tmp_path / "swin.pth"))
    for name, tensor in backbone.trunk.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name]), name


def test_weights_of_a_tresnet_under_its_publishers_names(tmp_path):
    """The scale of its in-place norms counts as |w| + 1e-5."""
    target = Classifier(build("tresnet_m", 64), "mlic", 2, label_embeddings=torch.zeros(2, 4))
    published = {
        name.removeprefix("module.backbone."): tensor
        for name, tensor in to_published(target).items()
        if name.startswith("module.backbone.")
    }
    scale = "body.layer2.0.conv1.0.1.weight"
    published[scale] = torch.linspace(-1, 1, len(published[scale]))
    torch.save({"model": published}, tmp_path / "tresnet.pth")
    trunk = build("tresnet_m", 64, weights=str(tmp_path / "tresnet.pth")).trunk
    found = trunk.state_dict()["body.layer2.0.conv1.bn.weight"]
    torch.testing.assert_close(found, published[scale].abs() + 1e-5, atol=1e-8, rtol=0)
    name = "body.layer3.0.conv2.conv.weight"
    assert torch.equal(trunk.state_dict()[name], target.backbone.trunk.state_dict()[name])


@pytest.mark.parametrize("size", [224, 384, 448])
@pytest.mark.parametrize("drop_class_token", [False, True])
@pytest.mark.parametrize("position", [False, True])
def test_vit_at_the_published_sizes(size, drop_class_token, position):
    """A kept class token takes part with a position code of zero, and has no heatmap cell."""
    backbone = build("test_vit", size, drop_class_token=drop_class_token)
    model = Classifier(backbone, "mlic", 5, {"pos": position}, torch.randn(5, 8)).eval()
    patches, prefix = (size // 16) ** 2, 0 if drop_class_token else 1
    with torch.no_grad():
        attention = model(torch.randn(2, 3, size, size)).attention
    assert attention.shape == (2, 5, patches)
    total = attention.sum(dim=-1)
    assert (total < 1 - 1e-5).all() if prefix else torch.allclose(total, torch.ones(2, 5))
    if position:
        position_code = model.head.position
        assert len(position_code) == prefix + patches
        assert not position_code[:prefix].any() and position_code[prefix:].any(dim=1).all()


@pytest.mark.parametrize(
    ("name", "size", "sides"),
    [
        ("vit_large_patch16_224", 450, "16"),
        ("swin_large_patch4_window12_384_in22k", 448, "384"),
        ("tresnet_l", 450, "4"),
        ("vit_small_patch14_dinov2", 450, "--img-size 450"),
        ("vit_small_patch14_dinov2", 120, "--img-size 120"),
        ("vit_tiny_r_s16_p8_224", 100, "224"),
        ("halonet50ts", 448, "halonet50ts"),
    ],
)
def test_image_sizes_that_an_architecture_refuses(name, size, sides):
    where = f"--arch {name}" if "dinov2" in name else f"--img-size {size}"
    with refused(where, sides), torch.device("meta"):
        build(name, size)


@pytest.mark.parametrize(
    ("name", "size", "grid", "prefix"),
    [
        ("convnext_tiny", 448, 14, 0),
        ("efficientnet_b0", 448, 14, 0),
        ("vit_small_patch14_dinov2", 448, 32, 1),
        ("vit_small_patch14_reg4_dinov2", 448, 32, 5),
        ("vit_tiny_r_s16_p8_224", 448, 14, 1),
        ("swin_tiny_patch4_window7_224", 448, 14, 0),
    ],
)
def test_other_families_at_the_methods_side(name, size, grid, prefix):
    with torch.device("meta"):
        backbone = build(name, size)
    assert backbone.grid == (grid, grid) and backbone.prefix_tokens == prefix


def test_swin_drops_paths_as_published():
    with torch.device("meta"):
        trunk = build("swin_large_patch4_window12_384_in22k", 384).trunk
    assert trunk.layers[-1].blocks[-1].drop_path2.drop_prob == pytest.approx(0.1)


def test_unknown_names_come_with_close_ones():
    with refused("--arch resnet_101", "resnet101"):
        find_arch("resnet_101")
