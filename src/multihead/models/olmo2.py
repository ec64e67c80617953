"""OLMo 2 (arXiv:2501.00656): norms on what each step gives, and over all heads of queries and keys. OLMo 3: windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import nn

from ..checkpoints.key_map import KeyMap, Rows
from ..config import Size
from ..errors import UnsupportedConfig
from ..nn.attention.attention import Attention
from ..nn.layer import Layer, Residual
from ..nn.norms import AllHeadsNorm, WideRMSNorm
from ..nn.positions import Positions
from ..nn.stack import Stack
from . import llama
from .common import gguf
from .common.patterns import FULL, SLIDING, every, layer_kinds, layered_rope_entries, rotary_by_layer, rotary_of
from .olmo import HEADS


@dataclass(kw_only=True)
class Olmo2Config(llama.LlamaConfig):
    model_type = "olmo2"

    vocab_size: Size = 50304
    rms_norm_eps: float = 1e-5
    pad_token_id: int | None = 1
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = 50279


@dataclass(kw_only=True)
class Olmo3Config(Olmo2Config):
    model_type = "olmo3"
    theta: ClassVar[float] = 500000.0

    sliding_window: Size | None = 4096
    layer_types: list[str] | None = None

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Apply a rotary scaling for all layers to the full-attention ones only."""
        base = entries.get("rope_theta")
        thetas = dict.fromkeys((FULL, SLIDING), cls.theta if base is None else base)
        return layered_rope_entries({k: v for k, v in entries.items() if k != "rope_theta"}, thetas)

    def check(self) -> None:
        if not all(isinstance(self.rope_parameters.get(kind), Mapping) for kind in (SLIDING, FULL)):
            raise UnsupportedConfig(f"rope_parameters must hold {SLIDING!r} and {FULL!r}, not {self.rope_parameters}.")


def norm(config: Any) -> nn.Module:
    return WideRMSNorm(config.hidden_size, config.rms_norm_eps)


def attention(config: Any, positions: Positions, window: int | None = None) -> Attention:
    key_heads = config.num_key_value_heads or config.num_attention_heads
    q_norm, k_norm = (
        AllHeadsNorm(WideRMSNorm(heads * config.head_width, config.rms_norm_eps))
        for heads in (config.num_attention_heads, key_heads)
    )
    return llama.attention(config, positions, window=window, q_norm=q_norm, k_norm=k_norm)


def layer(config: Olmo2Config, positions: Positions, window: int | None = None) -> Layer:
    mixer = Residual(attention(config, positions, window), out=norm(config))
    return Layer(mixer, Residual(llama.feed_forward(config), out=norm(config)))


def build(config: Olmo2Config) -> Stack:
    positions = rotary_of(config, config.head_width)
    return llama.decoder(config, lambda i: layer(config, positions), norm)


def build_mixed(config: Olmo3Config) -> Stack:
    kinds, positions = (
        layer_kinds(config, every(4, config.num_hidden_layers)),
        rotary_by_layer(config, config.head_width),
    )
    window = {FULL: None, SLIDING: config.sliding_window}
    return llama.decoder(config, lambda i: layer(config, positions[kinds[i]], window[kinds[i]]), norm)


HEAD_NORMS: Rows = {
    "layers.*.attention.step.q_norm.norm": "layers.*.self_attn.q_norm",
    "layers.*.attention.step.k_norm.norm": "layers.*.self_attn.k_norm",
}


def keys(config: Any) -> KeyMap:
    own = {
        **HEAD_NORMS,
        "layers.*.attention.out": "layers.*.post_attention_layernorm",
        "layers.*.ffn.out": "layers.*.post_feedforward_layernorm",
    }
    return llama.keys(config, own, without=("layers.*.attention.before", "layers.*.ffn.before"))


def gguf_keys(config: Olmo2Config) -> KeyMap:
    own = {
        "layers.*.attention.step.q_norm.norm": "blk.*.attn_q_norm",
        "layers.*.attention.step.k_norm.norm": "blk.*.attn_k_norm",
        "layers.*.attention.out": "blk.*.post_attention_norm",
        "layers.*.ffn.out": "blk.*.post_ffw_norm",
    }
    return gguf.llama_keys(config, own, without=("layers.*.attention.before", "layers.*.ffn.before"))


ARCHITECTURE = replace(
    llama.ARCHITECTURE,
    name="Olmo2",
    config=Olmo2Config,
    build=build,
    keys=keys,
    heads=HEADS,
    layouts={"gguf": gguf_keys},
)
OLMO3 = ARCHITECTURE.derive("Olmo3", Olmo3Config, build_mixed)
