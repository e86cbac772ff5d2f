"""The whole head and its training against the golden values."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from lib.training.ema import Ema
from lib.training.losses import asymmetric_loss
from lib.training.optim import make_optimizer
from lib.training.schedules import make_schedule
from models.classifier import Classifier
from models.official import from_published, own_name, to_published
from tests.helpers import goldens

VARIANTS = {
    "post": {"pos": True, "tau": 1.0, "lamda": 0.4},
    "pre": {"normalize_before": True, "num_layers": 2, "tau": 0.5, "lamda": 0.4},
    "random": {"pos": True, "tau": 1.0, "lamda": 0.1},
}


class StubBackbone(nn.Module):
    """The goldens' backbone: one linear layer on tokens, a 3 x 3 grid."""

    num_features, prefix_tokens, grid = 32, 0, (3, 3)

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(OrderedDict(proj=nn.Linear(24, 32)))

    def forward(self, tokens):
        return self.trunk(tokens)


def head(variant):
    """The model of a golden variant with the goldens' weights, and the arrays of the variant."""
    small = goldens.arrays("small")
    seed = int(small["seed"])
    values = {
        name.removeprefix(f"head.{variant}."): value
        for name, value in small.items()
        if name.startswith(f"head.{variant}.")
    }
    text = None if variant == "random" else torch.from_numpy(values["text"])
    model = Classifier(StubBackbone(), "mlic", 6, VARIANTS[variant], text)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    state = goldens.published_state(goldens.shapes(f"head_keys_{variant}"), seed)
    model.load_state_dict(from_published(state, model))
    return model, values


@pytest.mark.parametrize("variant", VARIANTS)
def test_parity_head_eval(variant):
    model, values = head(variant)
    with torch.no_grad():
        output = model.eval()(torch.from_numpy(values["x"][0]))
    np.testing.assert_allclose(output.logits, values["eval.logits"], atol=1e-5)
    np.testing.assert_allclose(output.attention, values["eval.alpha"], atol=1e-5)
    names = goldens.shapes(f"head_keys_{variant}")
    assert {name: list(tensor.shape) for name, tensor in to_published(model).items()} == {
        f"module.{name}": shape for name, shape in names.items()
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_parity_head_training(variant):
    """Eight steps: gradients of the first, every loss, and both models' logits at the end."""
    model, values = head(variant)
    model.train()
    optimizer = make_optimizer(model, "AdamW", lr=1e-3, weight_decay=1e-4)
    schedule = make_schedule("OneCycleLR", optimizer, lr=1e-3, total_steps=8)
    ema = Ema(model, 0.9)
    losses = []
    for step, (tokens, targets) in enumerate(zip(values["x"], values["y"], strict=True)):
        output = model(torch.from_numpy(tokens))
        targets = torch.from_numpy(targets)
        patch, count = asymmetric_loss(output.logits, targets)
        auxiliary, _ = asymmetric_loss(output.object_logits, targets)
        loss = (patch + VARIANTS[variant]["lamda"] * auxiliary) / count
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            assert_gradients(model, values)
        optimizer.step()
        ema.update(model)
        schedule.after_step()
        losses.append(loss.item())
    np.testing.assert_allclose(losses, values["losses"], rtol=2e-4)
    tokens = torch.from_numpy(values["x"][0])
    with torch.no_grad():
        logits, ema_logits = model.eval()(tokens).logits, ema.model(tokens).logits
    np.testing.assert_allclose(logits, values["final.logits"], atol=5e-4)
    np.testing.assert_allclose(ema_logits, values["final.ema_logits"], atol=5e-4)


def assert_gradients(model, values):
    """Norms, and the first four rows of those that the goldens hold, to 1e-3 of the norm."""
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}

    def gradient_of(published):
        return gradients[own_name(published)]

    norms, rows = (
        {name.removeprefix(part): value for name, value in values.items() if name.startswith(part)}
        for part in ("gradnorm.", "grad.")
    )
    assert norms and rows
    for name, norm in norms.items():
        assert gradient_of(name).norm().item() == pytest.approx(float(norm), rel=1e-3), name
    for name, expected in rows.items():
        gradient = gradient_of(name)
        found = gradient.reshape(len(gradient), -1)[:4].flatten().numpy()
        tolerance = 1e-3 * gradient.norm().item()
        np.testing.assert_allclose(found, expected.flatten(), rtol=0, atol=tolerance, err_msg=name)
