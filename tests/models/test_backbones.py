"""Backbones: tokens in row-major order, grid and stride read from the model, weights that fit."""

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from models.backbones import build_backbone
from models.errors import ModelError
from models.registry import ARCHS, find_arch, normalization


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


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_weights_of_a_file_arrive(tmp_path, ending):
    source = timm.create_model("test_resnet", num_classes=7)
    file = tmp_path / f"weights.{ending}"
    if ending == "pth":
        torch.save({"state_dict": source.state_dict()}, file)
    else:
        save_file(source.state_dict(), file)
    backbone = build("test_resnet", weights=str(file))
    for name, tensor in backbone.trunk.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name]), name


def test_weights_that_leave_parts_out_are_refused(tmp_path):
    state = timm.create_model("test_resnet").state_dict()
    del state["layer1.0.conv1.weight"]
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(ModelError, match=r"expected layer1.0.conv1.weight .*1 names missing"):
        build("test_resnet", weights=str(tmp_path / "part.pth"))
    state["layer1.0.conv1.weight"] = torch.zeros(1, 2, 3, 3)
    torch.save(state, tmp_path / "shape.pth")
    with pytest.raises(ModelError, match="layer1.0.conv1.weight"):
        build("test_resnet", weights=str(tmp_path / "shape.pth"))
    np.savez(tmp_path / "other.npz", x=np.zeros(2))
    with pytest.raises(ModelError, match="does not fit test_vit"):
        build("test_vit", 160, weights=str(tmp_path / "other.npz"))


def test_unknown_names_come_with_close_ones():
    with pytest.raises(ModelError, match="did you mean resnet101"):
        find_arch("resnet_101")
