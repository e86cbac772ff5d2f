"""The error of a model that cannot be built or loaded as asked."""


class ModelError(ValueError):
    """What was expected and found, in one line; `lib.experiment.network` makes it a user error."""
