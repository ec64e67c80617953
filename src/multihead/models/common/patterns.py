"""Config entries that many decoders share: rotary parameters in old and new spelling, and sliding-window layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import UnsupportedConfig
from ...nn.positions import Rotary, rotary

FULL, SLIDING, LINEAR = "full_attention", "sliding_attention", "linear_attention"
OLDER_KINDS = {"attention": FULL, "mamba": LINEAR}  # names of layer types in files before 2026


def rope_entries(entries: Mapping[str, Any], *, theta: float, factor: float | None = None) -> dict[str, Any]:
    """Return config.json entries with `rope_theta`, `rope_scaling` and the like merged into `rope_parameters`.

    A `rope_scaling` takes the place of all of `rope_parameters`, as in the reference.

    Args:
        theta: the family's default base. factor: its default `partial_rotary_factor`, where it has one.
    """
    entries, known, scaling = _rope(entries)
    old_theta, old_factor = entries.pop("rope_theta", None), entries.pop("partial_rotary_factor", None)
    rope = _typed(scaling or known)
    rope.setdefault("rope_theta", theta if old_theta is None else old_theta)
    factor = factor if old_factor is None else old_factor
    if factor is not None:
        rope.setdefault("partial_rotary_factor", factor)
    trained = entries.get("original_max_position_embeddings")
    if trained is not None and rope["rope_type"] != "default":
        rope["original_max_position_embeddings"] = trained
    return {**entries, "rope_parameters": rope}


def own_rope(entries: Mapping[str, Any], rope: Mapping[str, Any]) -> dict[str, Any]:
    """Return config.json entries with a family's own rotary parameters where they have none.

    As in the reference, `rope_theta` alone does not change these.
    """
    known = entries.get("rope_parameters") or entries.get("rope_scaling")
    old = {} if known else {"rope_theta": None, "rope_parameters": {**rope}}
    return {**entries, **old}


def layered_rope_entries(
    entries: Mapping[str, Any], thetas: Mapping[str, float], scaled: Sequence[str] = (FULL,)
) -> dict[str, Any]:
    """Do the same for a family with rotary parameters for each layer type.

    Args:
        thetas: kind of layer -> its base where `rope_parameters` names none.
        scaled: kinds that `rope_scaling` is added to.
    """
    entries, known, scaling = _rope(entries)
    if not all(kind in thetas and isinstance(rope or {}, Mapping) for kind, rope in known.items()):
        raise UnsupportedConfig(f"rope_parameters must hold an object for {' and '.join(thetas)}, not {known!r}.")
    rope = {
        kind: {"rope_theta": base, **_typed({**(known.get(kind) or {}), **(scaling if kind in scaled else {})})}
        for kind, base in thetas.items()
    }
    return {**entries, "rope_parameters": rope}


def _rope(entries: Mapping[str, Any]) -> tuple[dict[str, Any], Mapping[str, Any], Mapping[str, Any]]:
    """Return the entries without `rope_scaling`, their rotary parameters, and that entry. Raises UnsupportedConfig."""
    entries = dict(entries)
    known, scaling = entries.get("rope_parameters") or {}, entries.pop("rope_scaling", None) or {}
    if not isinstance(known, Mapping) or not isinstance(scaling, Mapping):
        raise UnsupportedConfig(f"rope_parameters must be an object of named numbers, not {known or scaling!r}.")
    return entries, known, scaling


def _typed(rope: Mapping[str, Any]) -> dict[str, Any]:
    """Return rotary parameters with their type under its current name."""
    rope = dict(rope)
    kind = rope.pop("type", "default")
    return {"rope_type": kind, **rope}


def rotary_of(config: Any, width: int) -> Rotary:
    """Return the rotary positions of a config whose layers share them."""
    return rotary(width, whole(config, config.rope_parameters), config.max_position_embeddings)


def rotary_by_layer(config: Any, width: int) -> dict[str, Rotary]:
    """Return the rotary positions of each layer type, where a config gives a set for each."""
    return {
        kind: rotary(width, whole(config, rope), config.max_position_embeddings)
        for kind, rope in config.rope_parameters.items()
        if isinstance(rope, Mapping)
    }


def whole(config: Any, rope: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return rotary parameters without `partial_rotary_factor`, where a family rotates all channels of a head.

    Raises:
        UnsupportedConfig: a scaled kind of part of the channels, which such a family has no layers for.
    """
    part = rope.get("partial_rotary_factor")
    if part in (None, 1) or getattr(config, "rotary_factor", None) is not None:
        return rope
    if rope.get("rope_type") == "proportional":  # whose frequencies are those of whole heads
        return rope
    if rope.get("rope_type", "default") != "default":
        raise UnsupportedConfig(
            f"partial_rotary_factor is {part!r} beside rope_type {rope['rope_type']!r}; {config.model_type} turns all "
            "channels of a head."
        )
    return {name: value for name, value in rope.items() if name != "partial_rotary_factor"}


def layer_kinds(config: Any, default: Sequence[str], known: Sequence[str] = (FULL, SLIDING)) -> list[str]:
    """Return `layer_types` under their current names, or the family's default.

    Raises:
        UnsupportedConfig: a kind that is not computed, or not one for each layer.
    """
    kinds = [OLDER_KINDS.get(kind, kind) for kind in (default if config.layer_types is None else config.layer_types)]
    if set(kinds) - {*known}:
        raise UnsupportedConfig(f"layer_types may hold {' and '.join(map(repr, known))}, not {sorted(set(kinds))}.")
    if len(kinds) != config.num_hidden_layers:
        raise UnsupportedConfig(f"layer_types has {len(kinds)} entries for {config.num_hidden_layers} layers.")
    return kinds


def every(count: int, layers: int) -> list[str]:
    """Return sliding-window layer types with every `count`th layer full."""
    return [SLIDING if (i + 1) % count else FULL for i in range(layers)]
