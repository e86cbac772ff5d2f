"""The peers' heads against golden values, and against their formulas written out."""

import re

import numpy as np
import pytest
import torch

from models.heads import ATTENTION, EVIDENCE
from models.heads import HEADS as SPECS
from models.heads.csra import CSRAHead
from models.heads.linear import LinearHead
from models.heads.ml_decoder import MLDecoderHead
from models.heads.q2l import Q2LHead
from tests.helpers import goldens

DECODER_NAMES = {
    "multihead_attn": "cross_attention",
    "linear1": "feed_forward.0",
    "linear2": "feed_forward.3",
}
HEADS = {
    "linear": lambda: LinearHead(24, 6),
    "csra.1": lambda: CSRAHead(24, 6, csra_heads=1, csra_lambda=0.1),
    "csra.4": lambda: CSRAHead(24, 6, csra_heads=4, csra_lambda=0.5),
    "ml_decoder.6": lambda: MLDecoderHead(24, 6, embedding_size=32),
    "ml_decoder.4": lambda: MLDecoderHead(24, 6, num_groups=4, embedding_size=32),
    "q2l": lambda: Q2LHead(24, 6, (3, 3), hidden_dim=32, feed_forward_size=64),
}


def own_name(tag, name):
    """A published name in the names of this project."""
    if tag == "linear":
        return name.replace("head.", "classifier.")
    if tag.startswith("csra"):
        return re.sub(r"multi_head\.(\d)\.head", r"classifiers.\1", name)
    for old, new in DECODER_NAMES.items():
        name = name.replace(f".{old}.", f".{new}.")
    if tag.startswith("ml_decoder"):
        name = name.removeprefix("decoder.").replace("layers.0.", "decoder.")
        for old, new in {
            "duplicate_pooling_bias": "output_bias",
            "duplicate_pooling": "output",
            "embed_standart": "embedding",
            "query_embed.weight": "queries",
            "decoder.norm1": "query_norm",
            "decoder.norm2": "decoder.attention_norm",
            "decoder.norm3": "decoder.feed_forward_norm",
        }.items():
            name = re.sub(rf"^{re.escape(old)}(?=\.|$)", new, name)
        return name
    name = name.removeprefix("transformer.").replace(".layers.", ".")
    if name.startswith("encoder"):
        name = name.replace("self_attn", "self_attention")
        return name.replace("norm1", "attention_norm").replace("norm2", "feed_forward_norm")
    name = name.replace("norm2", "attention_norm").replace("norm3", "feed_forward_norm")
    return {
        "input_proj.weight": "projection.weight",
        "input_proj.bias": "projection.bias",
        "query_embed.weight": "queries",
        "decoder.norm.weight": "norm.weight",
        "decoder.norm.bias": "norm.bias",
        "fc.W": "classifier.weight",
        "fc.b": "classifier.bias",
    }.get(name, name)


def golden_head(tag):
    """A head with the goldens' weights, and the goldens' seed."""
    seed = int(goldens.arrays("heads")["seed"])
    state = goldens.published_state(goldens.shapes("heads_keys")[tag], seed)
    head = HEADS[tag]().eval()
    own = head.state_dict()
    renamed = {own_name(tag, name): tensor for name, tensor in state.items()}
    head.load_state_dict({name: one.view(own[name].shape) for name, one in renamed.items()})
    return head, seed


def normal(seed, shape):
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize("tag", HEADS)
def test_logits_and_gradients_of_the_golden_values(tag):
    values = goldens.arrays("heads")
    head, seed = golden_head(tag)
    x = normal(seed + 3000, (2, 9, 24)).requires_grad_()
    output = head(x)
    (output.logits * normal(seed + 4000, (2, 6))).sum().backward()
    np.testing.assert_allclose(output.logits.detach(), values[f"{tag}.logits"], atol=1e-5)
    np.testing.assert_allclose(x.grad, values[f"{tag}.grad_x"], atol=1e-5)
    assert output.object_logits is None
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name
    for name in (EVIDENCE, ATTENTION):
        assert (getattr(output, name) is not None) is (name in SPECS[tag.split(".")[0]].maps)
    for name in SPECS[tag.split(".")[0]].maps:
        assert output.heatmaps(name).shape == (2, 6, 9)
        torch.testing.assert_close(output.heatmaps(name).sum(dim=-1), torch.ones(2, 6))


@pytest.mark.parametrize("tag", HEADS)
def test_prefix_tokens_have_no_cell_in_the_heatmap(tag):
    head, _ = golden_head(tag)
    x = normal(1, (2, 10, 24))
    head.prefix_tokens = 1
    if tag == "q2l":
        head.position = torch.cat([torch.zeros(1, 32), head.position])
    output = head(x)
    assert all(getattr(output, name).shape == (2, 6, 9) for name in SPECS[tag.split(".")[0]].maps)
    if tag in ("linear", "csra.1", "csra.4"):  # they pool the patches alone
        head.prefix_tokens = 0
        torch.testing.assert_close(output.logits, head(x[:, 1:]).logits)


def test_evidence_of_the_linear_head_is_the_class_activation():
    """The prediction is its mean."""
    head, seed = golden_head("linear")
    x = normal(seed, (1, 9, 24))
    output = head(x)
    for patch in range(9):
        alone = head(x[:, patch : patch + 1]).logits[0]
        torch.testing.assert_close(output.evidence[0, :, patch], alone)
    torch.testing.assert_close(output.evidence.mean(dim=-1), output.logits)


def test_maps_of_csra_written_out():
    head, seed = golden_head("csra.4")
    x = normal(seed, (1, 9, 24))
    expected, evidence = torch.zeros(6, 9), torch.zeros(6, 9)
    for classifier, temperature in zip(head.classifiers, (1, 2, 4, None), strict=True):
        for label in range(6):
            w = classifier.weight[label]
            scores = x[0] @ w / w.norm()
            evidence[label] += scores
            if temperature is None:
                expected[label, scores.argmax()] += 1 / 4
            else:
                expected[label] += torch.softmax(temperature * scores, 0) / 4
    output = head(x)
    torch.testing.assert_close(output.attention[0], expected)
    torch.testing.assert_close(output.evidence[0], evidence)


def literal_attention(layer, queries, keys):
    """Softmax of scaled products, head by head, and their mean (Q, N); without a batch."""
    own = layer.cross_attention
    weights, biases = own.in_proj_weight.chunk(3), own.in_proj_bias.chunk(3)
    query = queries @ weights[0].T + biases[0]
    key = keys @ weights[1].T + biases[1]
    size = query.shape[-1] // own.num_heads
    parts = [slice(start, start + size) for start in range(0, query.shape[-1], size)]
    maps = [torch.softmax(query[:, p] @ key[:, p].T / size**0.5, dim=-1) for p in parts]
    return sum(maps) / len(maps)


def test_map_of_ml_decoder_written_out():
    head, seed = golden_head("ml_decoder.4")
    x = normal(seed, (1, 9, 24))
    memory = torch.relu(head.embedding(x[0]))
    expected = literal_attention(head.decoder, head.query_norm(2 * head.queries), memory)
    found = head(x).attention[0]
    torch.testing.assert_close(found, expected.repeat_interleave(2, dim=0)[:6])


def test_map_of_query2label_is_the_last_layers():
    head, seed = golden_head("q2l")
    x = normal(seed, (1, 9, 24))
    patches = head.projection(x)
    for layer in head.encoder:
        patches = layer(patches, head.position)
    keys, labels = patches + head.position, torch.zeros(1, 6, 32)
    labels, first = head.decoder[0](labels, labels + head.queries, keys, patches)
    expected = literal_attention(head.decoder[1], labels[0] + head.queries, keys[0])
    found = head(x).attention[0]
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, first[0])


@pytest.mark.parametrize("tag", ["ml_decoder.6", "ml_decoder.4", "q2l"])
def test_dropout_draws_in_training_alone_for_each_image(tag):
    torch.manual_seed(0)
    head = HEADS[tag]().train()
    x = torch.randn(1, 9, 24).expand(2, -1, -1)
    one, two = head(x).logits
    assert not torch.allclose(one, two)
    one, two = head.eval()(x).logits
    torch.testing.assert_close(one, two)


def test_dropout_of_ml_decoders_queries_is_that_of_each_image():
    head, seen = HEADS["ml_decoder.6"]().train(), []
    head.decoder.register_forward_pre_hook(lambda decoder, given: seen.append(given[0]))
    head(torch.randn(2, 9, 24))
    assert seen[0].shape == (2, 6, 32) and not torch.allclose(*seen[0])
