"""No option is ignored: each entry of the reference's configs is known here, and a value not computed is refused."""

from __future__ import annotations

import dataclasses
from functools import partial
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError

from multihead.config import type_hints
from multihead.errors import UnsupportedConfig
from multihead.models.common.registry import FAMILIES, architecture, parse_config
from multihead.nn.empty import empty_weights

from .case import Case, batch, reference
from .cases import CASES

FIRST: dict[str, Case] = {}
for _case in CASES:
    FIRST.setdefault(_case.made.model_type, _case)


def literals(hint: Any) -> tuple[Any, ...]:
    """The values that a hint allows, where it lists them."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        parts = [literals(part) for part in get_args(hint) if part is not type(None)]
        return tuple(value for part in parts for value in part) if all(parts) else ()
    return ()


def test_every_family_has_parity_rows():
    # formats that the reference does not read, parts that it has in a whole alone, and its second name of GPT-2
    own = set(
        "baichuan chatglm Dream gpt-sw3 internlm2 jina_bert kimi_k2 llada marian_ssru minicpm nomic_bert_moe phi3small "
        "qwen RefinedWeb RefinedWebModel muse_glimmer_text step3p5".split()
    )
    assert set(FAMILIES) - own == set(FIRST)


@pytest.mark.parametrize("kind", FIRST)
def test_every_entry_of_the_reference_is_known(kind):
    assert parse_config(FIRST[kind].made.to_dict()).unknown == ()


@pytest.mark.parametrize("kind", FIRST)
def test_values_that_are_not_computed_are_refused_by_name(kind):
    entries = FIRST[kind].made.to_dict()
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
    config = parse_config(FIRST[kind].made.to_dict())
    strings = [
        field.name
        for field in dataclasses.fields(config)
        if type_hints(type(config))[field.name] in (str, str | None) and isinstance(getattr(config, field.name), str)
    ]
    for name in strings:
        with pytest.raises(UnsupportedConfig, match="nonsense"):
            built(dataclasses.replace(config, **{name: "nonsense"}))


OTHER_DEFAULTS = {  # that mean the same, or follow from other entries
    "bailing_hybrid": {"head_dim"}, "ernie4_5_moe": {"moe_layer_end_index"}, "esm": {"vocab_size"},
    "gemma3n_text": {"intermediate_size"}, "hrm_text": {"num_hidden_layers"}, "qwen2": {"sliding_window"},
    "qwen2_moe": {"sliding_window"}, "qwen3": {"sliding_window"}, "qwen3_moe": {"sliding_window"},
    "dots3_note_text": {"rope_parameters"}, "mimo_v2_flash": {"rope_parameters"},
    "mistral4": {"rope_parameters"},
}  # fmt: skip
INCOMPLETE = {"dbrx", "deepseek_v2", "dots1", "encoder-decoder"}  # which refuse a config without some entries
UNBUILT = {"id2label", "label2id", "dtype", "transformers_version"}


def plain_rope(rope: dict[str, Any]) -> dict[str, Any]:
    """Rotary parameters without what changes nothing."""
    kept = {k: plain_rope(v) if isinstance(v, dict) else v for k, v in rope.items()}
    unread = (
        "type",
        "max_position_embeddings",
        *(["partial_rotary_factor"] if rope.get("partial_rotary_factor") == 1 else []),
    )
    return {k: v for k, v in kept.items() if k not in unread}


@pytest.mark.parametrize("kind", sorted(set(FIRST) - INCOMPLETE))
def test_a_config_without_entries_is_that_of_the_reference(kind):
    mine, theirs = architecture(kind).config().to_dict(), type(FIRST[kind].made)().to_dict()
    for entries in (mine, theirs):
        if isinstance(entries.get("rope_parameters"), dict):
            entries["rope_parameters"] = plain_rope(entries["rope_parameters"])
    shared = (mine.keys() & theirs.keys()) - OTHER_DEFAULTS.get(kind, set()) - UNBUILT - IN_OUTPUTS
    simple = {k for k in shared if not isinstance(mine[k], dict | list | tuple) or k == "rope_parameters"}
    assert {k: mine[k] for k in simple} == {k: theirs[k] for k in simple}


IN_OUTPUTS = {"use_cache", "return_dict", "output_attentions", "output_hidden_states"}  # which say what is shown


def altered(value: Any) -> Any:
    """Another value of the same type; None where there is none to think of."""
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else value * 2 + 0.5 if isinstance(value, float) else None


def unread(kind: str) -> dict[str, Any]:
    """Entries of the reference's config, with another value, that change no field here and are not refused."""
    entries = FIRST[kind].made.to_dict()
    plain = dataclasses.replace(parse_config(entries), extra={})
    found = {}
    for name, value in entries.items():
        other = altered(value)
        if other is None or name in IN_OUTPUTS or name.startswith("_"):
            continue
        try:
            same = dataclasses.replace(parse_config({**entries, name: other}), extra={}) == plain
        except UnsupportedConfig:
            continue
        if same:
            found[name] = other
    return found


@pytest.mark.parametrize("kind", FIRST)
def test_an_entry_that_is_not_read_changes_no_number_of_the_reference(kind):
    """The reference's model has the same outputs with another value of each entry that has no effect here."""
    case, others = FIRST[kind], unread(kind)
    if not others:
        return
    end = case.ends[0]
    model = reference(case, end)
    expected = shown(case, end, model)
    entries = {k: v for k, v in case.made.to_dict().items() if k not in ("model_type", "transformers_version")}
    for name, value in others.items():
        changed = dataclasses.replace(case, make=partial(type(case.make()), **{**entries, name: value}))
        try:
            other = reference(changed, end)
            sizes = {
                name: tensor.shape for name, tensor in other.state_dict().items()
            }  # MiniMax stores tables of decays
            other.load_state_dict({k: v for k, v in model.state_dict().items() if v.shape == sizes[k]}, strict=False)
            found = shown(changed, end, other)
        except (StrictDataclassClassValidationError, RuntimeError):  # it cannot compute this value, so no file has it
            continue
        for one, two in zip(found, expected, strict=True):
            torch.testing.assert_close(one, two, msg=lambda text, name=name: f"{name} is not read here: {text}")


def shown(case: Case, end: str, model: Any) -> list[torch.Tensor]:
    """Output tensors of the reference's model."""
    torch.manual_seed(5)  # of what some families draw in each pass
    with torch.no_grad():
        outputs = model(**batch(case, end)).to_tuple()
    return [x for x in outputs if isinstance(x, torch.Tensor)]


def built(config: Any) -> None:
    """Makes a model of every head, without memory."""
    family = architecture(config.model_type)
    with empty_weights():
        backbone = family.build(config)
        for end, make in family.heads.items():
            if make is not None and end not in family.backbone_variants:
                make(config, backbone)
