"""No option is ignored: each entry of the reference's configs is known here, and a value not computed is refused."""

from __future__ import annotations

import dataclasses
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pytest

from multihead.config import type_hints
from multihead.errors import UnsupportedConfig
from multihead.models.common.registry import FAMILIES, architecture, parse_config
from multihead.nn.empty import empty_weights

from .case import Case
from .cases import CASES

FIRST: dict[str, Case] = {}
for _case in CASES:
    FIRST.setdefault(_case.make().model_type, _case)


def literals(hint: Any) -> tuple[Any, ...]:
    """The values that a hint allows, where it lists them."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        parts = [literals(part) for part in get_args(hint) if part is not type(None)]
        return tuple(value for part in parts for value in part) if all(parts) else ()
    return ()


def test_every_family_has_parity_rows():
    own = {
        "jina_bert",
        "kimi_k2",
        "marian_ssru",
        "minicpm",
        "baichuan",
        "chatglm",
        "internlm2",
        "qwen",
        "RefinedWeb",
        "RefinedWebModel",
    }  # formats that the reference does not read
    assert set(FAMILIES) - own == set(FIRST)


@pytest.mark.parametrize("kind", FIRST)
def test_every_entry_of_the_reference_is_known(kind):
    assert parse_config(FIRST[kind].make().to_dict()).unknown == ()


@pytest.mark.parametrize("kind", FIRST)
def test_values_that_are_not_computed_are_refused_by_name(kind):
    entries = FIRST[kind].make().to_dict()
    config = parse_config(entries)
    for field in dataclasses.fields(config):
        allowed = literals(type_hints(type(config))[field.name])
        if not allowed or field.name == "problem_type":
            continue
        other = "nonsense" if isinstance(allowed[0], str) or allowed[0] is None else 97531
        other = (not allowed[0]) if isinstance(allowed[0], bool) and len(allowed) == 1 else other
        with pytest.raises(UnsupportedConfig, match=field.name):
            dataclasses.replace(config, **{field.name: other})
    for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"):
        own = type(config).aliases.get(name, name)
        if own in {field.name for field in dataclasses.fields(config)}:
            with pytest.raises(UnsupportedConfig, match=own):
                dataclasses.replace(config, **{own: -1})


@pytest.mark.parametrize("kind", FIRST)
def test_names_of_activations_and_positions_that_are_not_computed_are_refused(kind):
    config = parse_config(FIRST[kind].make().to_dict())
    strings = [
        field.name
        for field in dataclasses.fields(config)
        if type_hints(type(config))[field.name] in (str, str | None) and isinstance(getattr(config, field.name), str)
    ]
    for name in strings:
        with pytest.raises(UnsupportedConfig, match="nonsense"):
            built(dataclasses.replace(config, **{name: "nonsense"}))


def built(config: Any) -> None:
    """Makes a model of every head, without memory."""
    family = architecture(config.model_type)
    with empty_weights():
        backbone = family.build(config)
        for end, make in family.heads.items():
            if make is not None and end not in family.backbone_variants:
                make(config, backbone)
