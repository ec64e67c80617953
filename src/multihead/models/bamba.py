"""Bamba (IBM, Princeton and UIUC, 2024): layers of Mamba 2, a few of which are attention instead, and feed-forwards."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap, Rows
from ..config import Size
from ..errors import UnsupportedConfig
from ..nn.attention.attention import Attention
from ..nn.layer import Layer, MixerLayer, Residual
from ..nn.stack import Stack
from ..nn.state_space import GatedNorm, Mamba2
from . import llama, mamba
from .common.patterns import FULL, LINEAR, rotary_of


@dataclass(kw_only=True)
class HybridConfig(llama.LlamaConfig):
    """Config of a decoder whose state-space layers have the names of Bamba."""

    inert: ClassVar[tuple[str, ...]] = (
        "mamba_chunk_size",
        "num_logits_to_keep",
        "rope_interleaved",
        "use_mamba_kernels",
        "attn_rotary_emb",
    )

    mamba_n_heads: Size = 128
    mamba_d_head: Size | None = None
    mamba_n_groups: Size = 1
    mamba_d_state: Size = 256
    mamba_d_conv: Size = 4
    mamba_expand: Size = 2
    mamba_conv_bias: bool = True
    mamba_proj_bias: bool = False
    time_step_limit: list[float] | None = None

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Replace `auto` by what follows from the other sizes."""
        entries = {**entries, "mamba_d_head": None} if entries.get("mamba_d_head") == "auto" else dict(entries)
        if isinstance(entries.get("time_step_limit"), tuple):
            entries["time_step_limit"] = list(entries["time_step_limit"])
        return super().normalized(entries)

    def check(self) -> None:
        super().check()
        width = self.mamba_d_head or self.inner // self.mamba_n_heads
        if width * self.mamba_n_heads != self.inner:
            raise UnsupportedConfig(
                f"mamba_n_heads = {self.mamba_n_heads} of width {width} are not mamba_expand = {self.mamba_expand} "
                f"times hidden_size = {self.hidden_size}."
            )
        if self.time_step_limit is not None and len(self.time_step_limit) != 2:
            raise UnsupportedConfig(f"time_step_limit is a lowest and a highest step, not {self.time_step_limit}.")

    @property
    def inner(self) -> int:
        """Channels of a state-space layer."""
        return self.mamba_expand * self.hidden_size


@dataclass(kw_only=True)
class BambaConfig(HybridConfig):
    model_type = "bamba"
    rotary_factor: ClassVar[float] = 0.5  # whatever a file says beside its rotary parameters

    vocab_size: Size = 128000
    intermediate_size: Size = 14336
    num_key_value_heads: Size | None = 8
    rms_norm_eps: float = 1e-5
    max_position_embeddings: Size = 262144
    attn_layer_indices: list[int] | None = None
    z_loss_coefficient: Literal[0.0, 0] = 0.0  # type: ignore[valid-type]
    pad_token_id: int | None = 0

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        return super().normalized({k: v for k, v in entries.items() if k != "partial_rotary_factor"})


def mixer(config: HybridConfig) -> Mamba2:
    low, high = config.time_step_limit or (0.0, math.inf)
    return Mamba2(
        config.hidden_size,
        config.mamba_n_heads,
        config.inner // config.mamba_n_heads,
        config.mamba_d_state,
        config.mamba_n_groups,
        kernel=config.mamba_d_conv,
        gate=GatedNorm(config.inner, config.mamba_n_groups, config.rms_norm_eps),
        act=config.hidden_act,
        bias=config.mamba_proj_bias,
        out_bias=config.mamba_proj_bias,
        conv_bias=config.mamba_conv_bias,
        limits=(low, high),
    )


def decoder(
    config: Any,
    kinds: Sequence[str],
    attention: Callable[[], Attention],
    ffn: Callable[[], nn.Module],
    added: float = 1.0,
    **embed: Any,
) -> Stack:
    """Build a stack whose layers of the kind `LINEAR` are state spaces. added: scale of what both residuals add."""

    def layer(i: int) -> nn.Module:
        def residual(step: nn.Module) -> Residual:
            return Residual(step, before=llama.norm(config), scale=added)

        if kinds[i] == LINEAR:
            return MixerLayer(residual(mixer(config)), residual(ffn()))
        return Layer(residual(attention()), residual(ffn()))

    return llama.decoder(config, layer, **embed)


def build(config: BambaConfig) -> Stack:
    positions, chosen = rotary_of(config, config.head_width), config.attn_layer_indices or []
    kinds = [FULL if i in chosen else LINEAR for i in range(config.num_hidden_layers)]
    return decoder(config, kinds, lambda: llama.attention(config, positions), lambda: llama.feed_forward(config))


def rows(config: HybridConfig, ffn: str) -> Rows:
    """Return the key map rows of the state-space layers, whose norm before the feed-forward is called `ffn`."""
    channels = config.inner + 2 * config.mamba_n_groups * config.mamba_d_state
    norms = {"layers.*.mixer.before": "layers.*.input_layernorm", "layers.*.ffn.before": f"layers.*.{ffn}"}
    own = mamba.rows2(config, channels, config.mamba_d_conv, "layers.*.mixer.step", "layers.*.mamba")
    return {**norms, **own}


def keys(config: BambaConfig) -> KeyMap:
    own = {
        **rows(config, "pre_ff_layernorm"),
        **{f"layers.*.ffn.step.{n}": f"layers.*.feed_forward.{n}_proj" for n in ("gate", "up", "down")},
        "norm": "final_layernorm",
    }
    return llama.keys(config, own)


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "Bamba", BambaConfig, build, keys=keys, heads={"Model": None, "ForCausalLM": llama.generate}
)
