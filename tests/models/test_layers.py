"""The parts of the head: position code, encoder, intra-modal attention, classifiers."""

import numpy as np
import pytest
import torch

from models.heads.mlic import MLICHead
from models.layers import Dropout, IntraModalAttention, ObjectClassifier, position_code
from tests.helpers.refusals import refused
from tests.helpers.twins import literal_position


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_leaves_out_a_share_and_scales_the_rest(p, dtype):
    torch.manual_seed(0)
    dropout, ones = Dropout(p), torch.ones(3, 1001, 67, dtype=dtype, requires_grad=True)
    dropped = dropout(ones)
    zeros = dropped == 0
    assert zeros.float().mean().item() == pytest.approx(
        p, abs=5 * (p * (1 - p) / ones.numel()) ** 0.5
    )
    for axis in range(3):  # no row or column of its own
        others = [one for one in range(3) if one != axis]
        shares = zeros.float().mean(dim=others)
        deviation = (p * (1 - p) * len(shares) / ones.numel()) ** 0.5
        assert (shares - p).abs().max() < 6 * deviation
    assert set(dropped.unique().tolist()) == {0.0, (torch.ones((), dtype=dtype) / (1 - p)).item()}
    dropped.sum().backward()
    assert torch.equal(ones.grad, dropped)
    assert not torch.equal(dropout(ones), dropped)
    torch.manual_seed(0)
    assert torch.equal(dropout(ones), dropped)
    assert torch.equal(dropout.eval()(ones), ones)


@pytest.mark.parametrize(("height", "width", "size"), [(1, 1, 4), (3, 5, 8), (2, 2, 6)])
def test_position_code_matches_the_twin(height, width, size):
    expected = literal_position(height, width, size)
    np.testing.assert_allclose(position_code(height, width, size), expected, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("num_labels", [3, 5, 7])  # fewer, as many and more than patches
def test_intra_modal_attention_weighs_values_over_labels(num_labels, training):
    attention = IntraModalAttention(4).train(training)
    patches, objects = torch.randn(2, 5, 4), torch.randn(2, num_labels, 4)
    query, key = attention.patch_query(patches), attention.object_key(objects)
    value = attention.object_value(objects)
    mixed = torch.zeros(2, 5, 4)
    for image in range(2):
        for patch in range(5):
            weights = torch.softmax(key[image] @ query[image, patch], dim=0)
            mixed[image, patch] = sum(w * v for w, v in zip(weights, value[image], strict=True))
    torch.testing.assert_close(attention(patches, objects), attention.context(mixed))


def mlic(vectors=None, **settings):
    """The head on one class token and a 2 x 2 grid of 8 features, for 3 labels."""
    return MLICHead(8, 3, (2, 2), prefix_tokens=1, label_embeddings=vectors, **settings)


def test_class_token_has_no_position_and_no_heatmap_cell():
    model = mlic(num_heads=2, pos=True).eval()
    assert not model.position[0].any() and model.position[1:].any()
    output = model(torch.randn(2, 5, 8))
    assert output.attention.shape == (2, 3, 4)
    assert (output.attention.sum(-1) < 1).all()


def test_label_embeddings_are_part_of_the_state():
    vectors = torch.randn(3, 12)
    fixed, learned = mlic(vectors), mlic()
    torch.testing.assert_close(fixed.state_dict()["label_embeddings"], vectors)
    assert "label_embeddings" not in dict(fixed.named_parameters())
    assert dict(learned.named_parameters())["label_embeddings"].shape == (3, 768)
    assert learned.label_embeddings.abs().max() <= (1 / 768) ** 0.5
    for values in ObjectClassifier(3, 5).parameters():
        assert 0 < values.abs().max() <= 5**-0.5


def test_heads_must_divide_the_features():
    with refused("--num-heads 3"):
        mlic(num_heads=3)


def test_the_best_patch_of_each_label_decides():
    network = mlic(torch.randn(3, 5)).eval()
    assert network.patch_classifier[2].p == 0.5
    seen = []
    network.patch_classifier.register_forward_hook(lambda *call: seen.append(call[1:]))
    output = network(torch.randn(2, 5, 8))
    (((pairs,), patch_logits),) = seen
    assert pairs.shape == (2, 5, 16) and patch_logits.shape == (2, 5, 3)
    alone = [network.patch_classifier(pairs[:, n : n + 1])[:, 0] for n in range(5)]
    torch.testing.assert_close(output.logits, torch.stack(alone).amax(0))
    torch.testing.assert_close(output.evidence, torch.stack(alone[1:], dim=-1))  # no class token
    torch.testing.assert_close(output.heatmaps("evidence"), output.evidence.softmax(dim=-1))


def test_without_context_the_objects_change_no_score():
    """Only the auxiliary classifier sees what a label attends to."""
    images, labels = torch.randn(2, 5, 8), torch.randn(3, 5)
    for context in (True, False):
        network = mlic(labels, no_context=not context).eval()
        before = network(images)
        network.label_embeddings.copy_(labels.flip(0) * 9)
        after = network(images)
        assert not torch.allclose(before.object_logits, after.object_logits)
        assert torch.equal(before.logits, after.logits) is not context
