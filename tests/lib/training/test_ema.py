"""The moving average of a model's state."""

import torch
from torch import nn

from lib.training.ema import Ema


def model():
    return nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))


def test_average_matches_the_formula_over_the_whole_state():
    source = model()
    ema = Ema(source, 0.9)
    expected = {name: value.clone() for name, value in source.state_dict().items()}
    for _ in range(5):
        with torch.no_grad():
            for parameter in source.parameters():
                parameter.add_(torch.randn_like(parameter))
        source.train()(torch.randn(8, 3))
        ema.update(source)
        for name, value in source.state_dict().items():
            if value.is_floating_point():
                expected[name] += 0.1 * (value - expected[name])
            else:
                expected[name] = value.clone()
    for name, value in ema.model.state_dict().items():
        torch.testing.assert_close(value, expected[name])
    assert ema.model.state_dict()["1.num_batches_tracked"] == 5
    assert not torch.equal(ema.model[1].running_mean, source[1].running_mean)


def test_the_average_is_apart_from_its_source_until_it_is_copied():
    source = model()
    ema = Ema(source, 0.9)
    before = ema.model[0].weight.clone()
    with torch.no_grad():
        source[0].weight.add_(1)
    assert torch.equal(ema.model[0].weight, before)
    assert not ema.model.training and not any(p.requires_grad for p in ema.model.parameters())
    ema.update(source, copy_weights=True)
    assert torch.equal(ema.model[0].weight, source[0].weight)
