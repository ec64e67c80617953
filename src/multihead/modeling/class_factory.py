"""Makes model classes such as `BertForMaskedLM` from the registry, and chooses one for an Auto class."""

from __future__ import annotations

from functools import cache

from ..config import Config
from ..errors import UnknownModel
from ..heads.head_types import COUNT
from ..heads.outputs import HiddenOutput
from ..models.common.registry import DERIVED, FAMILIES, architecture, find_class
from .auto_classes import head_suffix
from .pretrained import PreTrainedModel
from .seq2seq import SequenceToSequence
from .signatures import with_arguments

ROUTERS = "output_router_logits"  # an argument of the families that declare the entry


@cache
def model_class(model_type: str, suffix: str) -> type[PreTrainedModel]:
    """Return the class of a family and a head suffix: `BertForMaskedLM` for ("bert", "ForMaskedLM").

    Raises:
        UnknownModel: the family has no such head.
    """
    family, entry = architecture(model_type), FAMILIES[model_type]
    name = entry.class_name(suffix)
    if suffix not in family.heads:
        names = ", ".join(entry.class_name(other) for other in family.heads)
        raise UnknownModel(f"{name} does not exist; the family has {names}.")
    both_sides = family.config.is_encoder_decoder and suffix not in family.backbone_variants
    own = {
        "architecture": family,
        "config_class": family.config,
        "head_suffix": suffix,
        "__module__": "multihead",
    }
    if both_sides:
        own["choose_class"] = staticmethod(choose_class)
    base = SequenceToSequence if both_sides else PreTrainedModel
    kind = family.head_type(suffix)
    arguments = (*kind.labels, *((COUNT,) if kind.counts_labels else ()), *family.inputs)
    if hasattr(family.config, ROUTERS) and (kind.generates or kind.output is HiddenOutput):
        arguments = (*arguments, ROUTERS)
    forward = with_arguments(base.forward, arguments)
    return type(name, (base,), {"forward": forward, **family.methods, **own})


def named_class(name: str) -> type[PreTrainedModel]:
    """Return the model class of this name. Raises UnknownModel."""
    found = find_class(name)
    if found is None:
        raise UnknownModel(
            f"{name} is no model class here; families: {', '.join(sorted(e.name for e in FAMILIES.values()))}."
        )
    return model_class(*found)


def choose_class(auto: str, config: Config) -> type[PreTrainedModel]:
    """Return the class that an Auto class loads for a config. Raises UnknownModel where the family has no such head."""
    kind = DERIVED.get(config.model_type, config.model_type)
    suffix = head_suffix(auto, kind)
    if suffix is None:
        names = map(FAMILIES[kind].class_name, architecture(kind).heads)
        raise UnknownModel(f"{auto}: the family {kind!r} has no such head; it has {', '.join(names)}.")
    return model_class(kind, suffix)
