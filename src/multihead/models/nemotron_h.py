"""Nemotron-H and Nemotron 3 (NVIDIA, 2025, arXiv:2504.03624): layers of Mamba 2, attention, feed-forward or experts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Slice, Source
from ..config import Config, Copies, Count, Size
from ..errors import UnsupportedConfig
from ..nn.experts import ExpertList, GroupedTopK, LatentExperts, RoutedExperts, SharedExpert
from ..nn.feedforward import FeedForward
from ..nn.layer import AttentionLayer, FeedForwardLayer, MixerLayer, Residual
from ..nn.norms import WideRMSNorm
from ..nn.positions import Positions
from ..nn.stack import Stack
from ..nn.state_space import GatedNorm, Mamba2
from . import llama, mamba
from .common import gguf
from .common.architecture import Architecture
from .common.patterns import FULL, LINEAR, OLDER_KINDS

EXPERTS, DENSE = "moe", "mlp"
LETTERS = {"M": LINEAR, "E": EXPERTS, "*": FULL, "-": DENSE}
OLDER = {  # names of the first files
    "mamba_n_groups": "n_groups",
    "mamba_d_conv": "conv_kernel",
    "mamba_dt_min": "time_step_min",
    "mamba_dt_max": "time_step_max",
    "mamba_conv_bias": "use_conv_bias",
}


@dataclass(kw_only=True)
class NemotronHConfig(Config):
    model_type = "nemotron_h"
    inert: ClassVar[tuple[str, ...]] = tuple(
        (
            "chunk_size expand hidden_dropout hybrid_override_pattern mamba_chunk_size mamba_expand mamba_proj_bias "
            "mamba_ssm_cache_dtype max_position_embeddings moe_shared_expert_overlap mtp_hybrid_override_pattern "
            "mtp_layers_block_type n_shared_experts norm_eps num_logits_to_keep num_nextn_predict_layers "
            "partial_rotary_factor rescale_prenorm_residual residual_in_fp32 rope_parameters rope_theta sliding_window "
            "time_step_floor time_step_limit time_step_max use_mamba_kernels"
        ).split()
    )
    aliases: ClassVar[dict[str, str]] = {"layer_types": "layers_block_type", "num_local_experts": "n_routed_experts"}

    vocab_size: Size = 131072
    hidden_size: Size = 4096
    layers_block_type: list[str] | None = None
    num_hidden_layers: Count = 4
    num_attention_heads: Size = 32
    num_key_value_heads: Size | None = 8
    head_dim: Size = 128
    attention_bias: Literal[False] = False
    attention_dropout: float = 0.0
    intermediate_size: Size = 21504
    mlp_hidden_act: str = "relu2"
    mlp_bias: bool = False
    ssm_state_size: Size = 128
    mamba_num_heads: Size = 128
    mamba_head_dim: Size = 64
    mamba_hidden_act: str = "silu"
    n_groups: Size = 8
    conv_kernel: Size = 4
    time_step_min: float = 0.001
    use_conv_bias: bool = True
    use_bias: bool = False
    n_routed_experts: Copies = 8
    moe_intermediate_size: Size = 7688
    moe_shared_expert_intermediate_size: Size = 7688
    moe_latent_size: Size | None = None
    num_experts_per_tok: Size = 2
    routed_scaling_factor: float = 1.0
    n_group: Size = 1
    topk_group: Size = 1
    norm_topk_prob: bool = True
    output_router_logits: bool = False
    initializer_range: float = 0.02
    layer_norm_epsilon: float = 1e-5
    tie_word_embeddings: Literal[False] = False
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Read the kinds of layers, which count them, from a list or from the letters of the first files."""
        entries = {OLDER.get(name, name): value for name, value in entries.items()}
        kinds, letters = entries.get("layers_block_type"), entries.get("hybrid_override_pattern")
        if kinds is None:
            if wrong := set(letters or "") - set(LETTERS):
                raise UnsupportedConfig(f"hybrid_override_pattern may hold {' '.join(LETTERS)}, not {sorted(wrong)}.")
            kinds = [LETTERS[letter] for letter in letters or "ME*-"]
        kinds = [OLDER_KINDS.get(kind, kind) for kind in kinds]
        return {**entries, "layers_block_type": kinds, "num_hidden_layers": len(kinds)}

    def check(self) -> None:
        if wrong := {*self.kinds} - {*LETTERS.values()}:
            raise UnsupportedConfig(f"layers_block_type may hold {', '.join(LETTERS.values())}, not {sorted(wrong)}.")

    @property
    def kinds(self) -> list[str]:
        return self.layers_block_type or list(LETTERS.values())

    @property
    def head_width(self) -> int:
        return self.head_dim

    @property
    def inner(self) -> int:
        """Channels of a state-space layer."""
        return self.mamba_num_heads * self.mamba_head_dim


def norm(config: NemotronHConfig) -> nn.Module:
    return WideRMSNorm(config.hidden_size, config.layer_norm_epsilon)


def mixer(config: NemotronHConfig) -> Mamba2:
    return Mamba2(
        config.hidden_size,
        config.mamba_num_heads,
        config.mamba_head_dim,
        config.ssm_state_size,
        config.n_groups,
        kernel=config.conv_kernel,
        gate=GatedNorm(config.inner, config.n_groups, config.layer_norm_epsilon),
        act=config.mamba_hidden_act,
        bias=config.use_bias,
        out_bias=config.use_bias,
        conv_bias=config.use_conv_bias,
        limits=(config.time_step_min, math.inf),
    )


def experts(config: NemotronHConfig) -> SharedExpert:
    """Build routed experts, which read a narrower projection of the states where there is one, and the shared one."""

    def one(width: int, inner: int, bias: bool = False) -> FeedForward:
        return FeedForward(width, inner, config.mlp_hidden_act, bias=bias)

    width, latent, count = config.hidden_size, config.moe_latent_size, config.n_routed_experts
    rule = GroupedTopK(
        count,
        config.num_experts_per_tok,
        groups=config.n_group,
        kept=config.topk_group,
        normalized=config.norm_topk_prob,
        scale=config.routed_scaling_factor,
    )
    each = ExpertList([one(latent or width, config.moe_intermediate_size) for _ in range(count)])
    routed = (
        RoutedExperts(width, each, count, rule, wide=True)
        if latent is None
        else LatentExperts(width, latent, each, count, rule, wide=True, latent_bias=config.mlp_bias)
    )
    return SharedExpert(routed, one(width, config.moe_shared_expert_intermediate_size, config.mlp_bias))


def build(config: NemotronHConfig) -> Stack:
    def layer(i: int) -> nn.Module:
        def residual(step: nn.Module) -> Residual:
            return Residual(step, before=norm(config))

        kind = config.kinds[i]
        if kind == LINEAR:
            return MixerLayer(residual(mixer(config)))
        if kind == FULL:
            return AttentionLayer(residual(llama.attention(config, Positions(), bias=False)))  # type: ignore[arg-type]
        if kind == EXPERTS:
            return FeedForwardLayer(residual(experts(config)))
        width, inner = config.hidden_size, config.intermediate_size
        return FeedForwardLayer(residual(FeedForward(width, inner, config.mlp_hidden_act, bias=config.mlp_bias)))

    return llama.decoder(config, layer, norm)


def keys(config: NemotronHConfig) -> KeyMap:
    channels, theirs = config.inner + 2 * config.n_groups * config.ssm_state_size, "layers.*.mixer"
    step = "layers.*.ffn.step"
    rows = {
        "embed.token": "embeddings",
        **{f"layers.*.{part}.before": "layers.*.norm" for part in ("mixer", "attention", "ffn")},
        **mamba.rows2(config, channels, config.conv_kernel, "layers.*.mixer.step", theirs),
        **{f"layers.*.attention.step.{n}": f"{theirs}.{n}_proj" for n in ("q", "k", "v")},
        "layers.*.attention.step.out": f"{theirs}.o_proj",
        **{f"{step}.{n}": f"{theirs}.{n}_proj" for n in ("up", "down")},
        **{f"{step}.shared.{n}": f"{theirs}.shared_experts.{n}_proj" for n in ("up", "down")},
        **{f"{step}.routed.experts.*.{n}": f"{theirs}.experts.*.{n}_proj" for n in ("up", "down")},
        f"{step}.routed.router": f"{theirs}.gate",
        f"{step}.routed.rule.correction": f"{theirs}.gate.e_score_correction_bias",
        f"{step}.routed.narrow": f"{theirs}.fc1_latent_proj",
        f"{step}.routed.widen": f"{theirs}.fc2_latent_proj",
        "norm": "norm_f",
    }
    return KeyMap(rows, "backbone.", prefixes=("model.",), ignored=(r"^mtp\.",))


def gguf_keys(config: NemotronHConfig) -> KeyMap:
    step, count = "layers.*.ffn.step", config.n_routed_experts
    sizes = config.conv_kernel, config.mamba_num_heads, config.inner, config.n_groups, config.ssm_state_size
    own: dict[str, str | Source] = {
        **{f"layers.*.{part}.before": "blk.*.attn_norm" for part in ("mixer", "attention", "ffn")},
        **mamba.gguf_rows2("layers.*.mixer.step", *sizes),
        **{f"{step}.shared.{n}": f"blk.*.ffn_{n}_shexp" for n in ("up", "down")},
        **{f"{step}.routed.experts.*.{n}": Slice(f"blk.*.ffn_{n}_exps", count) for n in ("up", "down")},
        f"{step}.routed.router": "blk.*.ffn_gate_inp",
        f"{step}.routed.rule.correction": "blk.*.exp_probs_b.bias",
        f"{step}.routed.narrow": "blk.*.ffn_latent_down",
        f"{step}.routed.widen": "blk.*.ffn_latent_up",
    }
    table, layers = gguf.llama_keys(config, own, (f"{step}.gate",)), "|".join(map(str, range(config.num_hidden_layers)))
    return replace(table, ignored=(*table.ignored, rf"^blk\.(?!({layers})\.)\d+\."))  # that draft later words


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return config entries of a GGUF file, whose lists of heads and widths tell the kinds of its layers.

    Raises:
        UnsupportedConfig: experts in groups, of which a file does not say how many are kept.
    """
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "head_dim", "vocab_size")
    found, sizes = gguf.entries(metadata, names, layer_norm_epsilon="rms_norm_eps"), mamba.gguf_sizes2(metadata)
    own = gguf.named(
        metadata, heads="attention.head_count_kv", widths="feed_forward_length", n_routed_experts="expert_count",
        num_experts_per_tok="expert_used_count", moe_intermediate_size="expert_feed_forward_length",
        moe_shared_expert_intermediate_size="expert_shared_feed_forward_length", norm_topk_prob="expert_weights_norm",
        routed_scaling_factor="expert_weights_scale", moe_latent_size="moe_latent_size", n_group="expert_group_count",
        n_shared_experts="expert_shared_count", drafting="nextn_predict_layers",
    )  # fmt: skip
    if own.get("n_group", 1) > 1:
        raise UnsupportedConfig("expert_group_count is above 1, and a file does not say how many groups are kept.")
    layers = found["num_hidden_layers"] - own.pop("drafting", 0)
    heads, widths = (x if isinstance(x, list) else [x] * layers for x in (own.pop("heads"), own.pop("widths")))
    wide = EXPERTS if own.get("n_routed_experts") else DENSE
    kinds = [FULL if h else wide if w else LINEAR for h, w in zip(heads[:layers], widths, strict=False)]
    mlp = {"intermediate_size": max(widths)} if wide == DENSE else {}
    tensors = gguf.tensor_names(metadata)
    biases = {"mlp_bias": "ffn_up.bias", "use_bias": "ssm_in.bias", "use_conv_bias": "ssm_conv1d.bias"}
    return {
        **found,
        **own,
        **mlp,
        **{name: any(one.endswith(end) for one in tensors) for name, end in biases.items()},
        "num_key_value_heads": max(heads),
        "layers_block_type": kinds,
        "num_hidden_layers": layers,
        "conv_kernel": sizes["kernel"],
        "ssm_state_size": sizes["state"],
        "mamba_num_heads": sizes["heads"],
        "mamba_head_dim": sizes["inner"] // sizes["heads"],
        "n_groups": sizes["groups"],
    }


ARCHITECTURE = Architecture(
    "NemotronH",
    NemotronHConfig,
    build,
    keys,
    heads={"Model": None, "ForCausalLM": llama.generate},
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": gguf_config},
)
