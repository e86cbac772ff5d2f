"""Models for inference: norms folded away, the same outputs."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.backbones import build_backbone
from models.classifier import Classifier
from models.folding import fold_norms
from models.registry import find_arch


def trained(model: nn.Module) -> nn.Module:
    """`model` with statistics as training leaves them."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
    return model


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, _BatchNorm) for module in model.modules())


@pytest.mark.parametrize("arch", ["resnet10t", "test_efficientnet", "test_resnet", "test_vit"])
def test_outputs_are_the_same_without_norms(arch):
    torch.manual_seed(0)
    backbone = build_backbone(arch, find_arch(arch), image_size=64)
    model = trained(Classifier(backbone, "mlic", 5, {"num_heads": 4, "pos": True})).eval()
    quick = copy.deepcopy(model)
    fold_norms(quick, torch.zeros(1, 3, 64, 64))
    mixed = math.prod(backbone.grid) > 5  # then the context's norm takes mixtures of rows
    assert norms(model) >= 4 and norms(quick) == mixed
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for found, expected in zip(quick(images), model(images), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


class Odd(nn.Module):
    """A layer whose output is used besides by its norm, in a way that modules do not show."""

    def __init__(self, besides: bool, twice: bool) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.besides, self.twice = besides, twice

    def forward(self, images):
        made = self.conv(images)
        output = self.norm(made)
        if self.twice:
            output = output + self.conv(images.flip(-1))
        return (output + made if self.besides else output,)


@pytest.mark.parametrize("besides, twice", [(True, False), (False, True)])
def test_what_cannot_be_folded_is_left_alone(besides, twice):
    model = trained(Odd(besides, twice)).eval()
    images = torch.randn(2, 3, 5, 5)
    quick = copy.deepcopy(model)
    fold_norms(quick, images)
    assert norms(quick) == 1
    with torch.no_grad():
        torch.testing.assert_close(quick(images), model(images), rtol=0, atol=0)
