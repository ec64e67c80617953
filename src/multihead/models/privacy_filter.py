"""OpenAI's privacy filter (2026): GPT-OSS that looks both ways, and labels tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Halves, Interleaved, Source
from ..config import Copies, Count, Size
from ..nn.experts import ClampedGate, RoutedExperts, StackedExperts, top_k_softmax
from ..nn.layer import Layer
from ..nn.stack import Stack
from . import gpt_oss, llama
from .common.patterns import rotary_of

KINDS = ("account_number", "private_address", "private_date", "private_email", "private_person", "private_phone",
         "private_url", "secret")  # fmt: skip
LABELS = ("O", *(f"{place}-{kind}" for kind in KINDS for place in ("B", "I", "E", "S")))


@dataclass(kw_only=True)
class OpenAIPrivacyFilterConfig(gpt_oss.GptOssConfig):
    model_type = "openai_privacy_filter"
    inert: ClassVar[Any] = (*gpt_oss.GptOssConfig.inert, "layer_types")

    vocab_size: Size = 200064
    hidden_size: Size = 640
    intermediate_size: Size = 640
    num_hidden_layers: Count = 8
    num_attention_heads: Size = 14
    num_key_value_heads: Size | None = 2
    sliding_window: Size = 128
    num_local_experts: Copies = 128
    classifier_dropout: float = 0.0
    pad_token_id: int | None = 199999
    eos_token_id: int | list[int] | None = 199999
    id2label: dict[Any, Any] | None = field(default_factory=lambda: dict(enumerate(LABELS)))

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Leave the labels unnamed where their number is another one than the usual."""
        count = entries.get("num_labels")
        if entries.get("id2label") is None and count not in (None, len(LABELS)):
            entries = {**entries, "id2label": {n: f"LABEL_{n}" for n in range(count)}}
        return super().normalized({k: v for k, v in entries.items() if k != "layer_types"})


def build(config: OpenAIPrivacyFilterConfig) -> Stack:
    positions, count, width = rotary_of(config, config.head_width), config.num_local_experts, config.hidden_size

    def layer(i: int) -> Layer:
        # As many tokens on either side as the window says.
        attention = llama.attention(config, positions, causal=False, window=config.sliding_window + 1, sinks=True)
        act = ClampedGate(config.swiglu_alpha, config.swiglu_limit)
        each = StackedExperts(count, width, config.intermediate_size, act)
        experts = RoutedExperts(width, each, count, top_k_softmax(config.num_experts_per_tok), bias=True, wide=True)
        return llama.layer(config, attention, experts)

    return llama.decoder(config, layer)


def keys(config: OpenAIPrivacyFilterConfig) -> KeyMap:
    plain, moe, step = gpt_oss.keys(config), "layers.*.mlp.experts", "layers.*.attention.step"
    heads = {"q": config.num_attention_heads, "k": config.num_key_value_heads or config.num_attention_heads}
    rows: dict[str, str | Source] = {
        **{f"{step}.{n}": Interleaved(f"layers.*.self_attn.{n}_proj", count) for n, count in heads.items()},
        "layers.*.ffn.step.experts.gate_up": Halves(f"{moe}.gate_up_proj", 1, axis=2),
        "layers.*.ffn.step.experts.gate_up_bias": Halves(f"{moe}.gate_up_proj_bias", 1, axis=1),
    }
    return KeyMap({**plain.rows, **rows}, plain.prefix, plain.prefixes, plain.ignored)


HEADS = {"Model": None, "ForTokenClassification": llama.HEADS["ForTokenClassification"]}
ARCHITECTURE = llama.ARCHITECTURE.derive(
    "OpenAIPrivacyFilter", OpenAIPrivacyFilterConfig, build, keys=keys, heads=HEADS
)
