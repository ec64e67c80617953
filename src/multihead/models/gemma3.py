"""Gemma 3's language model (Kamath et al., 2025, arXiv:2503.19786): normed queries and keys, two rotary bases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..checkpoints.key_map import KeyMap
from ..config import Size
from ..errors import UnsupportedConfig
from ..nn.layer import Layer
from ..nn.norms import WideRMSNorm
from ..nn.stack import Stack
from . import gemma2, llama
from .common import gguf
from .common.patterns import FULL, SLIDING, every, layer_kinds, layered_rope_entries, rotary_by_layer
from .gemma import HEADS, norm, words
from .qwen3 import NORMS


@dataclass(kw_only=True)
class Gemma3TextConfig(gemma2.Gemma2Config):
    model_type = "gemma3_text"
    pattern: ClassVar[int] = 6  # one full layer in so many

    vocab_size: Size = 262208
    max_position_embeddings: Size = 131072
    rms_norm_eps: float = 1e-6
    attn_logit_softcapping: float | None = None  # which no layer computes: queries and keys are normed instead
    final_logit_softcapping: float | None = None
    sliding_window_pattern: Size = 6
    use_bidirectional_attention: bool | None = None  # type: ignore[assignment]  # an encoder (EmbeddingGemma)

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Read a rotary base each for full and sliding layers; older: rope_theta and rope_local_base_freq."""
        local = entries.get("rope_local_base_freq")
        pattern = entries.get("_sliding_window_pattern", entries.get("sliding_window_pattern"))
        entries = {k: v for k, v in entries.items() if k not in ("rope_local_base_freq", "_sliding_window_pattern")}
        base = entries.pop("rope_theta", None)
        thetas = {SLIDING: 10000.0 if local is None else local, FULL: 1000000.0 if base is None else base}
        entries = layered_rope_entries(entries, thetas)
        named = entries.pop("hidden_activation", None)
        more = {"hidden_act": named} if named else {}
        more |= {"sliding_window_pattern": pattern} if pattern is not None else {}
        return {**entries, **more}

    def check(self) -> None:
        if not all(isinstance(self.rope_parameters.get(kind), Mapping) for kind in (SLIDING, FULL)):
            raise UnsupportedConfig(f"rope_parameters must hold {SLIDING!r} and {FULL!r}, not {self.rope_parameters}.")


def build(config: Gemma3TextConfig) -> Stack:
    positions, window = rotary_by_layer(config, config.head_width), config.sliding_window
    both = bool(config.use_bidirectional_attention)
    if both and window is not None:
        window = window // 2 + 1  # half of it to either side

    def layer(kind: str) -> Layer:
        norms = {name: WideRMSNorm(config.head_width, config.rms_norm_eps, centre=1.0) for name in ("q_norm", "k_norm")}
        own = gemma2.attention(
            config, kind, positions=positions[kind], softcap=None, causal=not both, window=window, **norms
        )
        return gemma2.layer(config, own)

    kinds = layer_kinds(config, every(config.sliding_window_pattern, config.num_hidden_layers))
    return llama.decoder(config, lambda i: layer(kinds[i]), norm, words(config))


def keys(config: Gemma3TextConfig) -> KeyMap:
    return llama.keys(config, {**gemma2.SANDWICH, **NORMS})


def gguf_keys(config: Gemma3TextConfig) -> KeyMap:
    norms = {ours: gguf.Shifted(f"blk.*.attn_{ours[-6:]}") for ours in NORMS}
    return gguf.llama_keys(config, {**gemma2.GGUF_SANDWICH, **norms}, norms=gguf.Shifted)


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return config entries of a GGUF file; an architecture of its own says that a model reads in both directions."""
    own = gguf.named(metadata, rope_local_base_freq="rope.freq_base_swa")
    both = {"use_bidirectional_attention": True} if metadata["general.architecture"] == "gemma-embedding" else {}
    return {**gemma2.gguf_config(metadata), **own, **both}


ARCHITECTURE = replace(
    gemma2.ARCHITECTURE,
    name="Gemma3",
    config=Gemma3TextConfig,
    build=build,
    keys=keys,
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": gguf_config},
    heads={**{end: HEADS[end] for end in ("Model", "ForSequenceClassification")}, "ForCausalLM": gemma2.generate},
)
