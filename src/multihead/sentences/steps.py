"""Former name of `multihead.sentences.modules`, to be removed in the next release."""

import warnings

from .modules import ACTIVATIONS, Dense, LayerNorm, Normalize, Pooling  # noqa: F401

warnings.warn("multihead.sentences.steps is now multihead.sentences.modules.", DeprecationWarning, stacklevel=2)
