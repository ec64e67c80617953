"""Hunyuan dense models (Tencent, 2025): Llama whose queries and keys are normed head by head after their rotation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..checkpoints.key_map import KeyMap, Rows
from ..config import Size
from ..errors import UnsupportedConfig
from ..nn.norms import RMSNorm
from ..nn.positions import Rotary
from ..nn.stack import Stack
from . import llama
from .common.patterns import rotary_of

NORMS: Rows = {
    "layers.*.attention.step.q_norm": "layers.*.self_attn.query_layernorm",
    "layers.*.attention.step.k_norm": "layers.*.self_attn.key_layernorm",
}


@dataclass(kw_only=True)
class HunYuanDenseV1Config(llama.LlamaConfig):
    model_type = "hunyuan_v1_dense"
    inert = (  # of other sizes' code, of pictures, and of a classifier
        "add_classification_head", "attention_head_dim", "cla_share_factor", "class_num", "dense_list",
        "enable_lm_head_fp32", "eod_token_id", "im_end_id", "im_newline_id", "im_start_id", "mask_init_id",
        "num_media_embeds", "org_vocab_size", "pad_id", "pool_type", "sep_token_id", "text_end_id", "text_start_id",
        "use_rotary_pos_emb", "xdrope_section",
    )  # fmt: skip

    vocab_size: Size = 290943
    rms_norm_eps: float = 1e-5
    mlp_bias: Literal[False] = False
    norm_type: Literal["rms"] = "rms"
    use_cla: Literal[False] = False
    use_qk_norm: Literal[True] = True
    pad_token_id: int | None = 0


def positions(config: Any) -> Rotary:
    """Return rotary positions; a fixed `alpha` of "dynamic" ones raises the base, whatever the length."""
    rope: Mapping[str, Any] = config.rope_parameters
    alpha = rope.get("alpha") if rope.get("rope_type") == "dynamic" else None
    if not alpha:
        return rotary_of(config, config.head_width)
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or alpha < 0:
        raise UnsupportedConfig(f"rope_parameters: alpha must be a number above 0, not {alpha!r}.")
    base = rope["rope_theta"] * alpha ** (config.head_width / (config.head_width - 2))
    changed = {"rope_type": "default", "rope_theta": base}
    return rotary_of(config.changed(rope_parameters=changed), config.head_width)


def build(config: HunYuanDenseV1Config) -> Stack:
    turned = positions(config)

    def norms() -> dict[str, Any]:
        return {name: RMSNorm(config.head_width, config.rms_norm_eps) for name in ("q_norm", "k_norm")}

    return llama.decoder(
        config,
        lambda i: llama.layer(
            config, llama.attention(config, turned, norm_last=True, **norms()), llama.feed_forward(config)
        ),
    )


def keys(config: Any) -> KeyMap:
    return llama.keys(config, NORMS)


HEADS = {end: llama.HEADS[end] for end in ("Model", "ForCausalLM", "ForSequenceClassification")}
DENSE = llama.ARCHITECTURE.derive("HunYuanDenseV1", HunYuanDenseV1Config, build, keys=keys, heads=HEADS)
