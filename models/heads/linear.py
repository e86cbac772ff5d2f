"""Mean over the patches, then one linear layer: the usual classifier of a backbone.

Shapes: B images, C labels, N patches, P prefix tokens, D features.
"""

import torch
from torch import Tensor, nn

from models.output import Output


class LinearHead(nn.Module):
    """Its heatmap is the class activation: the softmax over patches of a label's logit at each."""

    label_parts = ("",)

    def __init__(self, num_features: int, num_labels: int, *, prefix_tokens: int = 0) -> None:
        super().__init__()
        self.prefix_tokens = prefix_tokens
        self.classifier = nn.Linear(num_features, num_labels)

    def forward(self, tokens: Tensor) -> Output:
        """Tokens (B, P + N, D) -> `Output`."""
        patches = tokens[:, self.prefix_tokens :]
        activation = self.classifier(
            patches
        ).float()  # (B, N, C); its mean is linear in the patches
        attention = torch.softmax(activation.mT, dim=-1)
        return Output(self.classifier(patches.mean(dim=1)), None, attention)
