"""What all networks have in common: a backbone, a grid of patches, and `Output`.

Shapes: B images, S image side.
"""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from models.backbones import Backbone
from models.output import Output


class Classifier(nn.Module, ABC):
    """A network on the patch tokens of `backbone`, from normalised images (B, 3, S, S) to `Output`.

    `label_parts` begin the names of those parts of the state that belong to the labels; `maps` are
    the names of the maps in its `Output`, the one that decides the score first.
    """

    label_parts: tuple[str, ...] = ()
    maps: tuple[str, ...] = ()

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Output:
        """Normalised images (B, 3, S, S) -> `Output`."""
        return self.classify(self.backbone(images))

    @abstractmethod
    def classify(self, tokens: Tensor) -> Output:
        """The backbone's tokens (B, P + N, D) -> `Output`."""

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the patch grid."""
        return self.backbone.grid

    @property
    def token_shape(self) -> tuple[int, int]:
        """P + N tokens, D features."""
        height, width = self.grid
        return self.backbone.prefix_tokens + height * width, self.backbone.num_features


class HeadOnBackbone(Classifier):
    """A head that maps tokens (B, P + N, D) to `Output`, on a backbone."""

    def __init__(self, backbone: Backbone, head: Any) -> None:
        super().__init__(backbone)
        self.head = head
        self.label_parts = tuple(f"head.{part}" for part in head.label_parts)
        self.maps = head.maps

    def classify(self, tokens: Tensor) -> Output:
        """The backbone's tokens (B, P + N, D) -> `Output`."""
        return self.head(tokens)


class OnTokens(nn.Module):
    """`model` without its backbone: tokens (B, P + N, D) -> `Output`."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Output:
        """The backbone's tokens (B, P + N, D) -> `Output`."""
        return self.model.classify(tokens)
