"""ERNIE 4.5 with routed experts (Baidu, 2025): corrected softmax routing, rotated pairs side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Flat, Interleaved, Shaped, Source
from ..config import Copies, Count, Size
from ..errors import UnsupportedConfig
from ..heads.heads import Head
from ..nn.experts import GroupedTopK, SharedExpert
from ..nn.feedforward import GatedFeedForward
from ..nn.layer import Layer
from ..nn.stack import Stack
from . import gptj, llama
from .common import gguf
from .common.experts import ALONE, ROUTED, SHARED, expert_rows, gated, routed, routed_rows
from .common.later_words import without_mtp
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class Ernie4_5_MoeConfig(llama.LlamaConfig):
    model_type = "ernie4_5_moe"
    aliases: ClassVar[Mapping[str, str]] = {"num_experts": "moe_num_experts", "num_experts_per_tok": "moe_k"}
    inert = (
        "attention_dropout", "attention_probs_dropout_prob", "compression_ratio", "hidden_dropout_prob",
        "moe_capacity", "moe_gate", "moe_use_aux_free", "multi_token_pred_lambda", "num_nextn_predict_layers",
    )  # fmt: skip
    theta: ClassVar[float] = 500000.0

    vocab_size: Size = 103424
    hidden_size: Size = 2560
    intermediate_size: Size = 12288
    num_hidden_layers: Count = 28
    num_attention_heads: Size = 20
    num_key_value_heads: Size | None = 4
    max_position_embeddings: Size = 131072
    rms_norm_eps: float = 1e-5
    use_bias: bool = False
    moe_intermediate_size: Size = 1536
    moe_k: Size = 6
    moe_num_experts: Copies = 64
    moe_num_shared_experts: int = 2
    moe_layer_start_index: int = 1
    moe_layer_end_index: int = -1
    moe_layer_interval: Size = 1
    moe_norm_min: float = 1e-12
    output_router_logits: bool = False
    router_aux_loss_coef: float = 0.001
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 0

    def check(self) -> None:
        super().check()
        if self.moe_num_shared_experts < 0:
            raise UnsupportedConfig(f"moe_num_shared_experts is {self.moe_num_shared_experts}; it must be 0 or more.")


def feed_forward(config: Ernie4_5_MoeConfig, inner: int) -> GatedFeedForward:
    return gated(config, inner, bias=config.use_bias)


def experts(config: Ernie4_5_MoeConfig) -> Any:
    count, shared = config.moe_num_experts, config.moe_num_shared_experts
    rule = GroupedTopK(count, config.moe_k, shared=True, floor=config.moe_norm_min)
    each = routed(config, count, rule, wide=True, exact=True)
    return SharedExpert(each, feed_forward(config, config.moe_intermediate_size * shared)) if shared else each


def build(config: Ernie4_5_MoeConfig) -> Stack:
    positions, count = rotary_of(config, config.head_width), config.num_hidden_layers
    last = count - 1 if config.moe_layer_end_index == -1 else config.moe_layer_end_index

    def layer(i: int) -> Layer:
        sparse = (i + 1) % config.moe_layer_interval == 0 and config.moe_layer_start_index <= i <= last
        ffn = experts(config) if sparse else feed_forward(config, config.intermediate_size)
        return llama.layer(config, llama.attention(config, positions, bias=config.use_bias), ffn)

    return llama.decoder(config, layer)


def keys(config: Ernie4_5_MoeConfig) -> KeyMap:
    stem, rows = (ROUTED, expert_rows()) if config.moe_num_shared_experts else (ALONE, routed_rows())
    heads = {"q": config.num_attention_heads, "k": config.num_key_value_heads or config.num_attention_heads}
    turned = {f"layers.*.attention.step.{n}": Interleaved(f"layers.*.self_attn.{n}_proj", c) for n, c in heads.items()}
    count = config.moe_num_experts
    bias = Shaped("layers.*.mlp.moe_statics.e_score_correction_bias", (count,), (1, count))
    table = llama.keys(config, {**rows, **turned, f"{stem}.rule.correction": bias})
    # the reference's own name
    return without_mtp(replace(table, renamed=((r"\.gate\.moe_statics\.", ".moe_statics."),)))


def gguf_keys(config: Ernie4_5_MoeConfig) -> KeyMap:
    shared = gguf.shared_keys(SHARED) if config.moe_num_shared_experts else {}
    stem = ROUTED if shared else ALONE
    bias: dict[str, str | Source] = {f"{stem}.rule.correction": Flat("blk.*.exp_probs_b.bias")}
    return gguf.llama_keys(config, {**gguf.expert_keys(stem, config.moe_num_experts), **shared, **bias}, turned=True)


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    own = gguf.named(
        metadata, moe_num_experts="expert_count", moe_k="expert_used_count",
        moe_num_shared_experts="expert_shared_count", moe_intermediate_size="expert_feed_forward_length",
        moe_layer_start_index="leading_dense_block_count", moe_layer_interval="interleave_moe_layer_step",
    )  # fmt: skip
    return {**gguf.entries(metadata, llama.GGUF_NAMES), **own}


def generate(config: Ernie4_5_MoeConfig, backbone: Stack) -> Head:
    return gptj.generate(config, backbone) if config.use_bias else llama.generate(config, backbone)


HEADS = {"Model": None, "ForCausalLM": generate}
ARCHITECTURE = llama.ARCHITECTURE.derive(
    "Ernie4_5_Moe",
    Ernie4_5_MoeConfig,
    build,
    keys=keys,
    heads=HEADS,
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": gguf_config},
)
