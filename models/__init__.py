"""The networks: backbones, heads, and the weights and names of both."""


class ModelError(ValueError):
    """A model that cannot be built as it was asked for; the message names the flag."""
