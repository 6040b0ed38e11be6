"""The tasks of this package, where the registry of jobs looks for them."""

from studio.prompts.compare import Compare

__all__ = ["Compare"]
