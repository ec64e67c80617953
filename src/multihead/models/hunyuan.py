"""Hunyuan (Tencent, 2025, arXiv:2411.02265): Llama whose queries and keys are normed after their rotation; experts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap, Rows
from ..config import Copies, Size
from ..errors import UnsupportedConfig
from ..nn.experts import SharedExpert, softmax_top_k
from ..nn.layer import Layer
from ..nn.norms import RMSNorm
from ..nn.positions import Rotary
from ..nn.stack import Stack
from . import llama, qwen3
from .common import gguf
from .common.experts import DENSE as DENSE_ROWS
from .common.experts import ROUTED, SHARED, expert_rows, gated, routed
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


@dataclass(kw_only=True)
class HunYuanMoEV1Config(HunYuanDenseV1Config):
    model_type = "hunyuan_v1_moe"
    aliases: ClassVar[Mapping[str, str]] = {"num_experts_per_tok": "moe_topk", "num_local_experts": "num_experts"}
    inert: ClassVar[Any] = (
        *HunYuanDenseV1Config.inert, "capacity_factor", "cla_share_factor", "moe_drop_tokens",
        "moe_random_routing_dropped_token", "n_group", "routed_scaling_factor", "topk_group", "use_mixed_mlp_moe",
        "kv_lora_rank", "q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "norm_topk_prob",
        "moe_layer_freq", "position_embedding_xdrope", "skip_cls_token",
    )  # fmt: skip

    num_experts: Copies = 1
    moe_topk: Any = 1
    num_shared_expert: Any = 1
    moe_intermediate_size: Any = None
    moe_layer_num_skipped: Literal[0] = 0
    group_limited_greedy: Literal[False] = False
    use_mla: Literal[False] = False
    output_router_logits: bool = False

    def check(self) -> None:
        super().check()
        for name, wanted in (("num_shared_expert", 1), ("moe_intermediate_size", self.intermediate_size)):
            if set(self._listed(name)) - {wanted, None}:
                raise UnsupportedConfig(f"{name} is {getattr(self, name)!r}; {wanted} is computed here.")
        if not all(isinstance(n, int) and 0 < n <= self.num_experts for n in self._listed("moe_topk")):
            raise UnsupportedConfig(f"moe_topk is {self.moe_topk!r}, of {self.num_experts} experts.")

    def _listed(self, name: str) -> list[Any]:
        """Return an entry's value for each layer."""
        value = getattr(self, name)
        return value if isinstance(value, list) else [value] * self.num_hidden_layers

    @property
    def chosen(self) -> list[int]:
        """Number of experts of a token in each layer."""
        return self._listed("moe_topk")


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


def decoder(config: Any, feed_forward: Callable[[int], nn.Module]) -> Stack:
    turned = positions(config)

    def layer(i: int) -> Layer:
        norms = {name: RMSNorm(config.head_width, config.rms_norm_eps) for name in ("q_norm", "k_norm")}
        return llama.layer(config, llama.attention(config, turned, norm_last=True, **norms), feed_forward(i))

    return llama.decoder(config, layer)


def build(config: HunYuanDenseV1Config) -> Stack:
    return decoder(config, lambda _: llama.feed_forward(config))


def build_moe(config: HunYuanMoEV1Config) -> Stack:
    count, inner, chosen = config.num_experts, config.intermediate_size, config.chosen

    def experts(i: int) -> SharedExpert:
        each = routed(config, count, softmax_top_k(chosen[i], normalized=True), inner, wide=True)
        return SharedExpert(each, gated(config, inner))

    return decoder(config, experts)


def keys(config: Any) -> KeyMap:
    return llama.keys(config, NORMS)


def keys_moe(config: HunYuanMoEV1Config) -> KeyMap:
    return llama.keys(config, {**NORMS, **expert_rows(shared="shared_mlp", router="gate.wg")}, DENSE_ROWS)


HEADS = {end: llama.HEADS[end] for end in ("Model", "ForCausalLM", "ForSequenceClassification")}
DENSE = llama.ARCHITECTURE.derive(
    "HunYuanDenseV1",
    HunYuanDenseV1Config,
    build,
    keys=keys,
    heads=HEADS,
    layouts={"gguf": qwen3.gguf_keys},
    foreign_config={"gguf": llama.gguf_config},
)


def gguf_keys_moe(config: HunYuanMoEV1Config) -> KeyMap:
    own = {**gguf.expert_keys(ROUTED, config.num_experts), **gguf.shared_keys(SHARED)}
    return gguf.llama_keys(config, {**qwen3.GGUF_NORMS, **own}, DENSE_ROWS)


def gguf_config_moe(metadata: Mapping[str, Any]) -> dict[str, Any]:
    own = gguf.named(
        metadata, num_experts="expert_count", moe_topk="expert_used_count", num_shared_expert="expert_shared_count",
        moe_intermediate_size="expert_feed_forward_length",
    )  # fmt: skip
    return {**llama.gguf_config(metadata), **own}


MOE = DENSE.derive(
    "HunYuanMoEV1",
    HunYuanMoEV1Config,
    build_moe,
    keys=keys_moe,
    layouts={"gguf": gguf_keys_moe},
    foreign_config={"gguf": gguf_config_moe},
)
