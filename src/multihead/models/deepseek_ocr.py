"""The language model of DeepSeek-OCR 2 (DeepSeek-AI, 2026): DeepSeek-V2's experts beside Llama's attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..config import Copies, Size
from ..errors import UnsupportedConfig
from ..nn.layer import Layer
from ..nn.stack import Stack
from . import deepseek, llama
from .common.experts import expert_rows
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class DeepseekOcr2TextConfig(llama.LlamaConfig):
    model_type = "deepseek_ocr2_text"
    aliases: ClassVar[Mapping[str, str]] = {"num_experts": "n_routed_experts"}
    inert: ClassVar[tuple[str, ...]] = (  # of latent attention and of training
        *llama.LlamaConfig.inert,
        *("pretraining_tp", "kv_lora_rank", "q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"),
        *("first_k_dense_replace", "moe_layer_freq", "norm_topk_prob", "aux_loss_alpha", "seq_aux", "use_mla"),
    )

    vocab_size: Size = 102400
    mlp_layer_types: list[str] | None = None
    n_routed_experts: Copies = 64
    n_shared_experts: Size = 2
    num_experts_per_tok: Size | None = None
    moe_intermediate_size: Size = 1407
    n_group: Size | None = None
    topk_group: Size | None = None
    topk_method: Literal["greedy", "group_limited_greedy"] = "greedy"
    routed_scaling_factor: float = 1.0
    output_router_logits: bool = False

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Leave out `head_dim`: it follows from the width, whatever a file says."""
        return {k: v for k, v in super().normalized(entries).items() if k != "head_dim"}

    def check(self) -> None:
        super().check()
        deepseek.check_groups(self)

    @property
    def grouped(self) -> bool:
        return self.topk_method == "group_limited_greedy"


def build(config: Any) -> Stack:
    """Build the stack. Raises UnsupportedConfig where the config does not name the layers that have experts."""
    if config.mlp_layer_types is None or config.num_experts_per_tok is None:
        raise UnsupportedConfig("mlp_layer_types and num_experts_per_tok must say which layers have how many experts.")
    positions, dense = rotary_of(config, config.head_width), deepseek.dense_layers(config)

    def layer(i: int) -> Layer:
        ffn: nn.Module = llama.feed_forward(config) if dense[i] else deepseek.experts(config, deepseek.rule2)
        return llama.layer(config, llama.attention(config, positions), ffn)

    return llama.decoder(config, layer)


def keys(config: DeepseekOcr2TextConfig) -> KeyMap:
    # the reference reads experts of this type in stacks alone
    joined = (
        (r"\.experts\.(?P<expert>\d+)\.(gate|up)_proj\.weight$", ".experts.gate_up_proj"),
        (r"\.experts\.(?P<expert>\d+)\.down_proj\.weight$", ".experts.down_proj"),
    )
    return replace(llama.keys(config, expert_rows()), joined=joined)


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "DeepseekOcr2",
    DeepseekOcr2TextConfig,
    build,
    keys=keys,
    heads={end: llama.HEADS[end] for end in ("Model", "ForCausalLM")},
)
