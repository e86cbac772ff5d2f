"""Class-specific residual attention (Zhu and Wu, ICCV 2021).

Shapes: B images, C labels, N patches, P prefix tokens, D features.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.output import Output

# number of heads -> the temperature of each; an infinite one takes the maximum
TEMPERATURES = {
    1: (1.0,),
    2: (1.0, math.inf),
    4: (1.0, 2.0, 4.0, math.inf),
    6: (1.0, 2.0, 3.0, 4.0, 5.0, math.inf),
    8: (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, math.inf),
}


class CSRAHead(nn.Module):
    """A head's scores are `s = x . w / |w|`, its logit is `mean(s) + lambda * sum(softmax(T s) s)`;
    the logits of the heads are added. The attention is the softmax, averaged over the heads, the
    evidence the sum of the heads' scores."""

    def __init__(
        self,
        num_features: int,
        num_labels: int,
        *,
        prefix_tokens: int = 0,
        csra_heads: int = 1,
        csra_lambda: float = 0.1,
    ) -> None:
        super().__init__()
        self.temperatures = TEMPERATURES[csra_heads]
        self.csra_lambda, self.prefix_tokens = csra_lambda, prefix_tokens
        self.classifiers = nn.ModuleList(
            nn.Linear(num_features, num_labels, bias=False) for _ in self.temperatures
        )

    def forward(self, tokens: Tensor) -> Output:
        """Tokens (B, P + N, D) -> `Output`."""
        patches = tokens[:, self.prefix_tokens :]
        logits, attention, evidence = [], [], []
        classifier: Any
        for classifier, temperature in zip(self.classifiers, self.temperatures, strict=True):
            length = classifier.weight.norm(dim=1)
            scores = (classifier(patches) / length).mT.float()  # (B, C, N)
            if math.isinf(temperature):
                weights = F.one_hot(scores.argmax(dim=-1), scores.shape[-1]).to(scores.dtype)
            else:
                weights = torch.softmax(temperature * scores, dim=-1)
            logits.append(scores.mean(dim=-1) + self.csra_lambda * (weights * scores).sum(dim=-1))
            attention.append(weights)
            evidence.append(scores)
        return Output(
            torch.stack(logits).sum(dim=0),
            None,
            torch.stack(attention).mean(dim=0),
            torch.stack(evidence).sum(dim=0),
        )
