"""A backbone with a head, for all heads."""

import pytest
import torch

from models import classifier
from models.backbones import build_backbone
from models.classifier import Classifier
from models.heads import HEADS
from models.registry import find_arch


@pytest.mark.parametrize("name", HEADS)
def test_scores_do_not_depend_on_how_many_images_the_head_takes_at_once(monkeypatch, name):
    torch.manual_seed(0)
    backbone = build_backbone("resnet10t", find_arch("resnet10t"), image_size=64)
    model = Classifier(backbone, name, 7).eval()
    images, taken = torch.randn(5, 3, 64, 64), []
    model.head.register_forward_pre_hook(lambda head, inputs: taken.append(len(inputs[0])))
    with torch.no_grad():
        whole = model(images)
        monkeypatch.setattr(classifier, "HEAD_ELEMENTS", 2 * 7 * 512)
        parts = model(images)
    assert taken == [5, 2, 2, 1]
    for found, expected in zip(parts, whole, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
