"""Names of the tensors that a checkpoint lacks, or that a model does not read: `output_loading_info`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .base_model import BaseModel
from .model_config import open_text
from .own_parts import own_tensors, with_prefix


def loading_info(model: Any, given: Mapping[str, Tensor] | None = None) -> dict[str, Any]:
    """Return the keys of the reference's report of a model that was loaded just now.

    `missing_keys` are new in the model, `mismatched_keys` are too, with the shapes of file and model, and
    `unexpected_keys` belong to other heads or were ignored. `error_msgs` is empty: an error is raised.

    Args:
        given: tensors that were loaded instead of those of a file.
    """
    stored = given if given is not None else open_text(model.checkpoint_folder).tensors
    own = model.stored_tensors()
    names, read = names_of(model, stored), set(own)
    if isinstance(model, BaseModel):
        read = {key for where in model.keys.locations(model, stored).values() for key in where.keys}
    return {
        "missing_keys": {name for name in model.new_weights if name not in names},
        "unexpected_keys": {old for name, old in names.items() if name not in read},
        "mismatched_keys": {
            (name, stored[names[name]].shape, own[name].shape) for name in model.new_weights if name in names
        },
        "error_msgs": [],
    }


def names_of(model: Any, stored: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the names of tensors as a model has them -> their names in the file."""
    if isinstance(model, BaseModel):
        return model.keys.current_names(stored)
    return with_prefix(model, list(stored), list(own_tensors(model)))
