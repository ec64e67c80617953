"""RecurrentGemma (Botev et al., 2024, arXiv:2404.07839): Griffin's recurrent blocks and attention to a window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Shaped, Source
from ..config import Count, Size
from ..errors import UnsupportedConfig
from ..heads.heads import Head
from ..nn.feedforward import GatedFeedForward
from ..nn.layer import Layer, MixerLayer, Residual
from ..nn.norms import WideRMSNorm
from ..nn.rg_lru import RealGatedRecurrence
from ..nn.stack import Stack
from . import llama
from .common.patterns import rotary_of

RECURRENT, ATTENTION = "recurrent", "attention"


@dataclass(kw_only=True)
class RecurrentGemmaConfig(llama.LlamaConfig):
    model_type = "recurrent_gemma"
    inert: ClassVar[tuple[str, ...]] = (
        *("_block_types", "embeddings_scale_by_sqrt_dim", "layers_block_type", "rope_interleaved"),
        *("final_w_init_variance_scale", "w_init_variance_scale"),
    )
    aliases: ClassVar[dict[str, str]] = {"sliding_window": "attention_window_size"}
    rotary_factor: ClassVar[float | None] = 0.5

    vocab_size: Size = 256000
    hidden_size: Size = 2560
    intermediate_size: Size = 7680  # of gate and up together
    num_hidden_layers: Count = 26
    num_attention_heads: Size = 10
    hidden_act: Literal["silu"] = "silu"  # Llama's, which nothing reads here
    hidden_activation: str = "gelu_pytorch_tanh"
    lru_width: Size | None = None
    attention_window_size: Size = 2048
    conv1d_width: Size = 4
    logits_soft_cap: float = 30.0
    block_types: list[str] | None = None
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 1

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        return super().normalized({k: v for k, v in entries.items() if k != "hidden_act"})

    def check(self) -> None:
        super().check()
        if wrong := {*(self.block_types or ())} - {RECURRENT, ATTENTION}:
            raise UnsupportedConfig(f"block_types may hold {RECURRENT!r} and {ATTENTION!r}, not {sorted(wrong)}.")
        if self.inner % self.num_attention_heads:
            raise UnsupportedConfig(f"lru_width = {self.inner} cannot be shared by {self.num_attention_heads} heads.")

    @property
    def inner(self) -> int:
        """Channels of a recurrent block."""
        return self.lru_width or self.hidden_size


def norm(config: Any) -> nn.Module:
    return WideRMSNorm(config.hidden_size, config.rms_norm_eps, centre=1.0)


def build(config: RecurrentGemmaConfig) -> Stack:
    positions, kinds = rotary_of(config, config.head_width), config.block_types or [RECURRENT, RECURRENT, ATTENTION]

    def residual(step: nn.Module) -> Residual:
        return Residual(step, before=norm(config))

    def layer(i: int) -> nn.Module:
        width, act = config.hidden_size, config.hidden_activation
        ffn = residual(GatedFeedForward(width, config.intermediate_size // 2, act, bias=True))
        if kinds[i % len(kinds)] == ATTENTION:
            window = config.attention_window_size
            return Layer(residual(llama.attention(config, positions, window=window, out_bias=True)), ffn)
        heads, kernel = config.num_attention_heads, config.conv1d_width
        return MixerLayer(residual(RealGatedRecurrence(width, config.inner, heads, kernel=kernel, act=act)), ffn)

    # The factor is a bfloat16 number, whatever the precision of the weights.
    scale = float(torch.tensor(config.hidden_size**0.5, dtype=torch.bfloat16, device="cpu"))
    return llama.decoder(config, layer, norm, scale=scale, rescales=True)


def keys(config: RecurrentGemmaConfig) -> KeyMap:
    inner, kernel, theirs = config.inner, config.conv1d_width, "layers.*.temporal_block"
    ours, attention = "layers.*.mixer.step", "layers.*.attention.step"
    own: dict[str, str | Source] = {
        f"{ours}.gate": f"{theirs}.linear_y",
        f"{ours}.into": f"{theirs}.linear_x",
        f"{ours}.out": f"{theirs}.linear_out",
        f"{ours}.convolution.weight": Shaped(f"{theirs}.conv_1d.weight", (inner, kernel), (inner, 1, kernel)),
        f"{ours}.convolution.bias": f"{theirs}.conv_1d.bias",
        f"{ours}.decay": f"{theirs}.rg_lru.recurrent_param",
        **{f"{attention}.{n}": f"{theirs}.{n}_proj" for n in ("q", "k", "v")},
        f"{attention}.out": f"{theirs}.o_proj",
        **{f"layers.*.{part}.before": "layers.*.temporal_pre_norm" for part in ("mixer", "attention")},
        "layers.*.ffn.before": "layers.*.channel_pre_norm",
        **{f"layers.*.ffn.step.{n}": f"layers.*.mlp_block.{n}_proj" for n in ("gate", "up", "down")},
        "norm": "final_norm",
    }
    for gate, name in (("input_gate", "input_gate"), ("decay_gate", "recurrent_gate")):
        own |= {f"{ours}.{gate}.{leaf}": f"{theirs}.rg_lru.{name}_{leaf}" for leaf in ("weight", "bias")}
    return llama.keys(config, own)


def generate(config: RecurrentGemmaConfig, backbone: Stack) -> Head:
    return llama.generate(config, backbone, softcap=config.logits_soft_cap)


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "RecurrentGemma", RecurrentGemmaConfig, build, keys=keys, heads={"Model": None, "ForCausalLM": generate}
)
