"""The model without its head, which a model with one holds under the reference's name (`model.bert`)."""

from __future__ import annotations

import weakref
from typing import Any

from torch import nn

from ..errors import UnsupportedOption
from ..modeling.class_factory import model_class
from ..nn.empty import empty_weights
from .part_table import PartTable, part_table


def without_head(of: weakref.ref[nn.Module]) -> nn.Module:
    """Return a model without a head over the same modules; it has the pooler where the model has one.

    Raises:
        UnsupportedOption: the family's model without a head has other layers, or the model is gone.
    """
    model: Any = of()
    if model is None:
        raise UnsupportedOption("The model that this is a part of is gone; keep it while its parts are called.")
    kind = model_class(model.config.model_type, "Model")
    with empty_weights():
        made: Any = kind(model.config)
    if type(model.backbone) is not type(made.backbone):
        raise UnsupportedOption(f"{type(model).__name__} has no {kind.__name__} inside that can be called.")
    made.backbone, made.attend = model.backbone, model.attend
    if made.head is not None and not _take_pooler(made, part_table(model), model.keys.prefix):
        made.head = made._head = None
    return made


def _take_pooler(made: Any, table: PartTable, prefix: str) -> bool:
    """Give the pooler the model's own parameters. Return whether the model has them."""
    for name, pieces in part_table(made).tensors.items():
        if pieces[0].path.startswith("head."):
            found = table.tensors.get(prefix + name)
            if found is None:
                return False
            pieces[0].owner._parameters[pieces[0].leaf] = found[0].parameter
    return True
