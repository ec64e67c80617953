"""The language model of Cohere's Compass and North vision models (2026): Cohere 2, positions by the kind of layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..checkpoints.key_map import KeyMap
from ..errors import UnsupportedConfig
from ..heads.heads import POOLS, Classifier, Head, last_word
from ..nn.positions import rotary
from ..nn.stack import Stack
from . import cohere, llama
from .common.patterns import FULL, SLIDING, layer_kinds, whole

AXES = ("mrope_section", "mrope_interleaved")  # of images; a text has the same position on all of them


@dataclass(kw_only=True)
class CohereCompassTextConfig(cohere.Cohere2Config):
    model_type = "cohere_compass_text"
    # kind of layer -> its rotary positions; null for none
    logit_scale: float | None = None  # type: ignore[assignment]
    use_qk_norm: Literal[False] = False
    pooling: Literal[None, "bos", "eos", "mean"] = None

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Keep the rotary entries of kinds of layers, and bases beside them for those that name none."""
        entries = dict(entries)
        base, known = entries.pop("rope_theta", None), entries.get("rope_parameters") or {}
        if entries.pop("rope_scaling", None) or not isinstance(known, Mapping):
            raise UnsupportedConfig("Rotary positions of Cohere Compass are given by rope_parameters for each kind.")
        nested = {kind: rope for kind, rope in known.items() if kind in (FULL, SLIDING)}
        if known and not nested:
            raise UnsupportedConfig(f"rope_parameters must name {FULL!r} or {SLIDING!r}, not {sorted(known)}.")
        rope = {kind: rope if rope is None else {"rope_theta": base, **rope} for kind, rope in nested.items()}
        return {**entries, "rope_parameters": rope}

    @property
    def kinds(self) -> list[str]:
        return layer_kinds(self, [FULL] * self.num_hidden_layers)


def build(config: CohereCompassTextConfig) -> Stack:
    missing = set(config.kinds) - set(config.rope_parameters)
    if missing:
        raise UnsupportedConfig(f"rope_parameters lack {', '.join(sorted(missing))}; null stands for no positions.")
    positions = {}
    for kind, rope in config.rope_parameters.items():
        used = None if rope is None else {name: value for name, value in rope.items() if name not in AXES}
        made = None if used is None else rotary(config.head_width, whole(config, used), config.max_position_embeddings)
        positions[kind] = made
    kinds, window = config.kinds, config.sliding_window

    def layer(i: int) -> Any:
        return cohere.layer(config, positions[kinds[i]], window if kinds[i] == SLIDING else None)

    return llama.decoder(config, layer, cohere.norm)


def keys(config: CohereCompassTextConfig) -> KeyMap:
    """Return the key map, whose rotated channels are half a head apart."""
    table = cohere.keys(config)
    plain = {f"layers.*.attention.{n}": f"layers.*.self_attn.{n}_proj" for n in ("q", "k")}
    return replace(table, rows={**table.rows, **plain})


def generate(config: CohereCompassTextConfig, backbone: Stack) -> Head:
    scale = 1.0 if config.logit_scale is None else config.logit_scale
    return llama.generate(config, backbone, scale=scale)


def classify(config: CohereCompassTextConfig, backbone: Stack) -> Head:
    pool = {"bos": POOLS["first"], "mean": POOLS["mean"]}.get(config.pooling or "", last_word(config))
    return Head(Classifier(config.hidden_size, config.num_labels, pool=pool, bias=False), {"out": "/score"})


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "CohereCompass",
    CohereCompassTextConfig,
    build,
    keys=keys,
    heads={"Model": None, "ForCausalLM": generate, "ForSequenceClassification": classify},
)
