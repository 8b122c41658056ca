"""What can be wrong with the registry or a model in it."""


class RegistryError(RuntimeError):
    """The registry and PostgreSQL do not fit together; the message says where."""


class RegistryUnavailable(RegistryError):
    """MLflow cannot be reached, or answers with an error of its own."""


class ModelRejected(RegistryError):
    """A version that must not be used: not registered by training, changed since, untrusted, or of other features."""
