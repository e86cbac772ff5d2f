"""The error of a model that cannot be built or loaded as asked."""


class ModelError(ValueError):
    """Says in one line what was expected and found; `lib.builder` makes it a user error."""
