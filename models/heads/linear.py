"""Mean over the patches, then one linear layer: the usual classifier of a backbone.

Shapes: B images, C labels, N patches, P prefix tokens, D features.
"""

from torch import Tensor, nn

from models.output import Output


class LinearHead(nn.Module):
    """Its evidence is the class activation: a label's logit at each patch, of which the prediction
    is the mean."""

    def __init__(self, num_features: int, num_labels: int, *, prefix_tokens: int = 0) -> None:
        super().__init__()
        self.prefix_tokens = prefix_tokens
        self.classifier = nn.Linear(num_features, num_labels)

    def forward(self, tokens: Tensor) -> Output:
        """Tokens (B, P + N, D) -> `Output`."""
        patches = tokens[:, self.prefix_tokens :]
        evidence = self.classifier(patches).mT
        return Output(self.classifier(patches.mean(dim=1)), None, None, evidence)
