"""Falcon-H1 (Zuo et al., 2025, arXiv:2507.22448): attention and a state space side by side in every layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Source
from ..config import Count, Size
from ..errors import UnsupportedConfig
from ..heads.heads import Head
from ..nn.feedforward import GatedFeedForward
from ..nn.layer import Hybrid, Layer, Residual
from ..nn.stack import Stack
from ..nn.state_space import Gate, GatedNorm, Mamba2
from . import llama, mamba
from .common import gguf
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class FalconH1Config(llama.LlamaConfig):
    model_type = "falcon_h1"
    inert = ("mamba_chunk_size", "num_logits_to_keep", "mamba_use_mlp", "mlp_expansion_factor")

    vocab_size: Size = 128000
    intermediate_size: Size = 14336
    num_hidden_layers: Count = 32
    num_key_value_heads: Size | None = 8
    rms_norm_eps: float = 1e-5
    max_position_embeddings: Size = 8192
    attn_layer_indices: None = None  # every layer has attention
    mamba_d_ssm: Size | None = 1024
    mamba_n_heads: Size = 128
    mamba_d_head: Size | None = None
    mamba_n_groups: Size = 1
    mamba_d_state: Size = 256
    mamba_d_conv: Size = 4
    mamba_expand: float = 2
    mamba_conv_bias: bool = True
    mamba_proj_bias: bool = False
    mamba_norm_before_gate: bool = True
    mamba_rms_norm: bool = False
    projectors_bias: bool = False
    time_step_limit: list[float] | None = None
    lm_head_multiplier: float = 1.0
    embedding_multiplier: float = 1.0
    mlp_multipliers: list[float] | None = None
    key_multiplier: float = 1.0
    attention_in_multiplier: float = 1.0
    attention_out_multiplier: float = 1.0
    ssm_multipliers: list[float] | None = None
    ssm_in_multiplier: float = 1.0
    ssm_out_multiplier: float = 1.0
    pad_token_id: int | None = 0

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Replace `auto` by what follows from the other sizes."""
        entries = {**entries, "mamba_d_head": None} if entries.get("mamba_d_head") == "auto" else dict(entries)
        for name in ("time_step_limit", "mlp_multipliers", "ssm_multipliers"):
            if isinstance(entries.get(name), tuple):
                entries[name] = list(entries[name])
        return super().normalized(entries)

    def check(self) -> None:
        super().check()
        if self.state_width * self.mamba_n_heads != self.inner:
            raise UnsupportedConfig(
                f"{self.mamba_n_heads} state-space heads of width {self.state_width} do not make {self.inner} channels."
            )
        for name, count in (("mlp_multipliers", 2), ("ssm_multipliers", 5), ("time_step_limit", 2)):
            given = getattr(self, name)
            if given is not None and len(given) != count:
                raise UnsupportedConfig(f"{name} holds {count} numbers, not {given}.")

    @property
    def inner(self) -> int:
        return self.mamba_d_ssm or int(self.mamba_expand * self.hidden_size)

    @property
    def state_width(self) -> int:
        return self.mamba_d_head or self.inner // self.mamba_n_heads


def mixer(config: FalconH1Config) -> Mamba2:
    low, high = config.time_step_limit or (0.0, math.inf)
    norm = GatedNorm(config.inner, config.mamba_n_groups, config.rms_norm_eps, after=config.mamba_norm_before_gate)
    return Mamba2(
        config.hidden_size,
        config.mamba_n_heads,
        config.state_width,
        config.mamba_d_state,
        config.mamba_n_groups,
        kernel=config.mamba_d_conv,
        gate=norm if config.mamba_rms_norm else Gate(),
        act=config.hidden_act,
        bias=config.mamba_proj_bias,
        out_bias=config.projectors_bias,
        conv_bias=config.mamba_conv_bias,
        limits=(low, high),
        scales=(config.ssm_in_multiplier, *(config.ssm_multipliers or [1.0] * 5)),
    )


def build(config: FalconH1Config) -> Stack:
    positions = rotary_of(config, config.head_width)
    gate, down = config.mlp_multipliers or (1.0, 1.0)

    def layer(_: int) -> Layer:
        scale = config.head_width**-0.5 * config.key_multiplier
        attention = llama.attention(config, positions, scale=scale)
        both = Hybrid(
            attention,
            mixer(config),
            into=(config.attention_in_multiplier, 1.0),
            out=(config.attention_out_multiplier, config.ssm_out_multiplier),
        )
        ffn = GatedFeedForward(
            config.hidden_size, config.intermediate_size, config.hidden_act, bias=config.mlp_bias, scales=(gate, down)
        )
        return Layer(Residual(both, before=llama.norm(config)), Residual(ffn, before=llama.norm(config)))

    return llama.decoder(config, layer, scale=config.embedding_multiplier)


def keys(config: FalconH1Config) -> KeyMap:
    channels = config.inner + 2 * config.mamba_n_groups * config.mamba_d_state
    ours = "layers.*.attention.step"
    own = {
        **{f"{ours}.first.{n}": f"layers.*.self_attn.{n}_proj" for n in ("q", "k", "v")},
        f"{ours}.first.out": "layers.*.self_attn.o_proj",
        **mamba.rows2(config, channels, config.mamba_d_conv, f"{ours}.second", "layers.*.mamba"),
        **{f"layers.*.ffn.step.{n}": f"layers.*.feed_forward.{n}_proj" for n in ("gate", "up", "down")},
        "layers.*.ffn.before": "layers.*.pre_ff_layernorm",
        "norm": "final_layernorm",
    }
    table = llama.keys(config, own, tuple(f"{ours}.{n}" for n in ("q", "k", "v", "out")))
    return replace(table, ignored=(*table.ignored, r"mamba\.mup_vector$"))


def gguf_keys(config: FalconH1Config) -> KeyMap:
    ours = "layers.*.attention.step"
    own: dict[str, str | Source] = {
        **{f"{ours}.first.{n}": f"blk.*.attn_{n}" for n in ("q", "k", "v")},
        f"{ours}.first.out": "blk.*.attn_output",
        **mamba.gguf_rows2(
            f"{ours}.second", config.mamba_d_conv, config.mamba_n_heads, config.inner, config.mamba_n_groups,
            config.mamba_d_state,
        ),
    }  # fmt: skip
    return gguf.llama_keys(config, own, tuple(f"{ours}.{n}" for n in ("q", "k", "v", "out")))


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return config entries of a GGUF file, whose weights hold the multipliers.

    Raises:
        UnsupportedConfig: a norm in the mixer, of which a file does not say whether it is before the gate.
    """
    if gguf.has(metadata, "blk.0.ssm_norm.weight"):
        raise UnsupportedConfig(
            "A GGUF file of Falcon-H1 does not say where its mixers' norms (ssm_norm) are computed."
        )
    sizes = mamba.gguf_sizes2(metadata)
    flags = {"mamba_proj_bias": "ssm_in", "mamba_conv_bias": "ssm_conv1d", "projectors_bias": "ssm_out"}
    return {
        **llama.gguf_config(metadata),
        "mamba_d_ssm": sizes["inner"],
        "mamba_d_conv": sizes["kernel"],
        "mamba_d_state": sizes["state"],
        "mamba_n_heads": sizes["heads"],
        "mamba_d_head": sizes["inner"] // sizes["heads"],
        "mamba_n_groups": sizes["groups"],
        **{name: gguf.has(metadata, f"blk.0.{stem}.bias") for name, stem in flags.items()},
    }


def generate(config: FalconH1Config, backbone: Stack) -> Head:
    return llama.generate(config, backbone, scale=config.lm_head_multiplier)


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "FalconH1",
    FalconH1Config,
    build,
    keys=keys,
    heads={"Model": None, "ForCausalLM": generate},
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": gguf_config},
)
