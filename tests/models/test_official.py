"""Published names, both ways."""

import pytest
import torch

from models.official import from_published, own_name, published_name
from tests import goldens


@pytest.mark.parametrize("variant", ["post", "pre", "random"])
def test_every_published_name_has_one_of_ours(variant):
    names = set(goldens.shapes(f"head_keys_{variant}")) - {"position_embedding.pe"}
    ours = {own_name(name) for name in names}
    assert len(ours) == len(names)
    assert {published_name(name) for name in ours} == names
    assert not ours & names


def test_state_loses_module_prefix_position_and_trailing_axis():
    state = {
        "module.net1.0.weight": torch.ones(4, 4, 1),
        "module.position_embedding.pe": torch.ones(1),
        "module.fc.bias": torch.ones(3),
        "module.encoder.layers.0.norm2.bias": torch.ones(2),
    }
    own = from_published(state)
    assert {name: tuple(tensor.shape) for name, tensor in own.items()} == {
        "intra_modal.patch_query.linear.weight": (4, 4),
        "object_classifier.bias": (3,),
        "encoder.0.feed_forward_norm.bias": (2,),
    }
