"""BitNet b1.58 2B4T (Ma et al., 2025, arXiv:2504.12285): squared ReLU gates, norms before last products.

Files with a `quantization_config` have linear layers of ternary weights and inputs of 8 bits, rounded in each pass or
in the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import PackedTernary, Source
from ..config import Count, Size
from ..errors import UnsupportedConfig
from ..nn.bit_linear import BitLinear
from ..nn.feedforward import GatedFeedForward
from ..nn.layer import Layer
from ..nn.norms import RMSNorm
from ..nn.stack import Stack
from ..nn.weights import Linear, NormedLinear
from . import llama
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class BitNetConfig(llama.LlamaConfig):
    model_type = "bitnet"
    theta: ClassVar[float] = 500000.0

    vocab_size: Size = 128256
    hidden_size: Size = 2560
    intermediate_size: Size = 6912
    num_hidden_layers: Count = 30
    num_attention_heads: Size = 20
    num_key_value_heads: Size | None = 5
    hidden_act: str = "relu2"
    rms_norm_eps: float = 1e-5
    head_dim: Literal[None] = None  # a norm spans all heads, as wide as the states
    mlp_bias: Literal[False] = False
    quantization_config: dict[str, Any] | None = None
    bos_token_id: int | None = 128000
    eos_token_id: int | list[int] | None = 128001

    def check(self) -> None:
        super().check()
        entries = dict(self.quantization_config or {})
        wanted = {"quant_method": "bitnet", "linear_class": "autobitlinear", "use_rms_norm": False}
        for name, value in {**wanted, "modules_to_not_convert": None}.items():
            if entries and entries.get(name, None if name == "linear_class" else value) != value:
                raise UnsupportedConfig(f"quantization_config: {name} is {entries.get(name)!r}; {value!r} is computed.")
        if entries and entries.get("quantization_mode", "offline") not in ("online", "offline"):
            raise UnsupportedConfig(f"quantization_config: quantization_mode is {entries['quantization_mode']!r}.")

    @property
    def mode(self) -> str:
        """Rounding of linear layers: "online" in each pass, "offline" in the file, or "" for none."""
        entries = self.quantization_config
        return str(entries.get("quantization_mode", "offline")) if entries else ""


def linear(config: BitNetConfig, width: int, out: int, bias: bool = False) -> nn.Module:
    if not config.mode:
        return Linear(width, out, bias=bias)
    return BitLinear(width, out, bias=bias, learns=config.mode == "online")


def build(config: BitNetConfig) -> Stack:
    positions, inner = rotary_of(config, config.head_width), config.intermediate_size
    width, bias = config.hidden_size, config.attention_bias
    keys = config.head_width * (config.num_key_value_heads or config.num_attention_heads)

    def layer(i: int) -> Layer:
        out, down = (
            NormedLinear(RMSNorm(wide, config.rms_norm_eps), linear(config, wide, width, biased))
            for wide, biased in ((width, bias), (inner, False))
        )
        rows = {"q": width, "k": keys, "v": keys}
        projections = {name: linear(config, width, count, bias) for name, count in rows.items()}
        attention = llama.attention(config, positions, projections={**projections, "out": out})
        ffn: Any = GatedFeedForward(width, inner, config.hidden_act, down=down)
        if config.mode:
            ffn.gate, ffn.up = (linear(config, width, inner) for _ in range(2))
        return llama.layer(config, attention, ffn)

    return llama.decoder(config, layer)


def keys(config: BitNetConfig) -> KeyMap:
    ours, theirs = "layers.*.attention.step", "layers.*.self_attn"
    own: dict[str, str | Source] = {
        f"{ours}.out.norm": f"{theirs}.attn_sub_norm",
        f"{ours}.out.linear": PackedTernary(f"{theirs}.o_proj"),
        "layers.*.ffn.step.down.norm": "layers.*.mlp.ffn_sub_norm",
        "layers.*.ffn.step.down.linear": PackedTernary("layers.*.mlp.down_proj"),
        **{f"{ours}.{name}": PackedTernary(f"{theirs}.{name}_proj") for name in "qkv"},
        **{f"layers.*.ffn.step.{name}": PackedTernary(f"layers.*.mlp.{name}_proj") for name in ("gate", "up")},
    }
    return llama.keys(config, own, without=("layers.*.attention.step.out", "layers.*.ffn.step.down"))


HEADS = {end: llama.HEADS[end] for end in ("Model", "ForCausalLM")}
ARCHITECTURE = llama.ARCHITECTURE.derive("BitNet", BitNetConfig, build, keys=keys, heads=HEADS)
