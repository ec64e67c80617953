"""What the configs of many decoders say alike: rotary numbers in old and new spelling, and which layers slide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import UnsupportedConfig
from ..nn.positions import Rotary, rotary

FULL, SLIDING = "full_attention", "sliding_attention"


def rope_entries(
    entries: Mapping[str, Any], *, theta: float, factor: float | None = None, layered: bool = False
) -> dict[str, Any]:
    """config.json entries with `rope_theta`, `rope_scaling` and their like brought into `rope_parameters`.

    Args:
        theta: the family's default base. factor: its default `partial_rotary_factor`, where it has one.
        layered: rope_parameters may hold one set for each kind of layer; such sets are left alone.
    """
    entries = dict(entries)
    old_theta, scaling = entries.pop("rope_theta", None), entries.pop("rope_scaling", None)
    old_factor = entries.pop("partial_rotary_factor", None)
    known = entries.get("rope_parameters") or {}
    if not isinstance(known, Mapping) or not isinstance(scaling or {}, Mapping):
        raise UnsupportedConfig(f"rope_parameters must be an object of named numbers, not {known!r}.")
    if layered and {FULL, SLIDING} & set(known):
        return entries
    rope = {**(scaling or {}), **known}
    kind = rope.pop("type", "default")
    rope.setdefault("rope_type", kind)
    rope.setdefault("rope_theta", theta if old_theta is None else old_theta)
    factor = factor if old_factor is None else old_factor
    if factor is not None:
        rope.setdefault("partial_rotary_factor", factor)
    trained = entries.get("original_max_position_embeddings")
    if trained is not None and rope["rope_type"] != "default":
        rope["original_max_position_embeddings"] = trained
    return {**entries, "rope_parameters": rope}


def rotary_of(config: Any, width: int) -> Rotary:
    """The rotary positions of a config whose layers all turn alike."""
    return rotary(width, config.rope_parameters, config.max_position_embeddings)


def rotary_by_layer(config: Any, width: int) -> dict[str, Rotary]:
    """Kind of layer -> its rotary positions, where a config gives a set for each."""
    return {
        kind: rotary(width, rope, config.max_position_embeddings)
        for kind, rope in config.rope_parameters.items()
        if isinstance(rope, Mapping)
    }


def layer_kinds(config: Any, default: Sequence[str]) -> list[str]:
    """`layer_types`, or the family's usual ones.

    Raises:
        UnsupportedConfig: a kind that is not computed, or not one for each layer.
    """
    kinds = list(default if config.layer_types is None else config.layer_types)
    if set(kinds) - {FULL, SLIDING}:
        raise UnsupportedConfig(f"layer_types may hold {FULL!r} and {SLIDING!r}, not {sorted(set(kinds))}.")
    if len(kinds) != config.num_hidden_layers:
        raise UnsupportedConfig(f"layer_types has {len(kinds)} entries for {config.num_hidden_layers} layers.")
    return kinds


def every(count: int, layers: int) -> list[str]:
    """Sliding layers with every `count`th one full."""
    return [SLIDING if (i + 1) % count else FULL for i in range(layers)]
