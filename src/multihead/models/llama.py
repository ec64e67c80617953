"""Llama (Touvron et al., 2023, arXiv:2302.13971), and the parts that its relatives put together anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ..checkpoints.keys import KeyMap, Rows
from ..checkpoints.sources import Interleaved
from ..config import Config, Count, Size
from ..errors import UnsupportedConfig
from ..heads import Classifier, Head, LanguageModel, last
from ..nn.attention import Attention
from ..nn.embeddings import Embeddings
from ..nn.feedforward import GatedFeedForward
from ..nn.layer import Layer, Residual
from ..nn.norms import RMSNorm
from ..nn.positions import Positions, rotary
from ..nn.stack import Stack
from ..nn.weights import Embedding, Linear
from .architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class LlamaConfig(Config):
    model_type = "llama"

    vocab_size: Size = 32000
    hidden_size: Size = 4096
    intermediate_size: Size = 11008
    num_hidden_layers: Count = 32
    num_attention_heads: Size = 32
    num_key_value_heads: Size | None = None
    head_dim: Size | None = None
    hidden_act: str = "silu"
    max_position_embeddings: Size = 2048
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    rope_parameters: dict[str, Any] = field(default_factory=lambda: {"rope_type": "default", "rope_theta": 10000.0})
    attention_bias: bool = False
    attention_dropout: float = 0.0
    classifier_dropout: float = 0.1
    mlp_bias: bool = False
    tie_word_embeddings: bool = False
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """`rope_theta` and `rope_scaling`, as checkpoints before 2025 have them, become `rope_parameters`."""
        entries = dict(entries)
        theta, scaling = entries.pop("rope_theta", None), entries.pop("rope_scaling", None)
        rope = {**(scaling or {}), **(entries.get("rope_parameters") or {})}
        rope.setdefault("rope_type", rope.pop("type", "default"))
        rope.setdefault("rope_theta", 10000.0 if theta is None else theta)
        return {**entries, "rope_parameters": rope}

    def check(self) -> None:
        if self.head_dim is None and self.hidden_size % self.num_attention_heads:
            raise UnsupportedConfig(
                f"hidden_size = {self.hidden_size} is no multiple of num_attention_heads = {self.num_attention_heads}."
            )

    @property
    def head_width(self) -> int:
        return self.head_dim or self.hidden_size // self.num_attention_heads


def norm(config: LlamaConfig) -> RMSNorm:
    return RMSNorm(config.hidden_size, config.rms_norm_eps)


def attention(config: LlamaConfig, positions: Positions, **changes: Any) -> Attention:
    usual = {
        "key_heads": config.num_key_value_heads,
        "head_width": config.head_width,
        "bias": config.attention_bias,
        "positions": positions,
        "causal": True,
        "dropout": config.attention_dropout,
    }
    return Attention(config.hidden_size, config.num_attention_heads, **{**usual, **changes})


def feed_forward(config: LlamaConfig) -> GatedFeedForward:
    return GatedFeedForward(config.hidden_size, config.intermediate_size, config.hidden_act, bias=config.mlp_bias)


def layer(config: LlamaConfig, attention: nn.Module, ffn: nn.Module) -> Layer:
    return Layer(Residual(attention, before=norm(config)), Residual(ffn, before=norm(config)))


def decoder(config: LlamaConfig, layer: Callable[[int], nn.Module]) -> Stack:
    """Word embeddings, `layer(i)` for each i, and a last norm."""
    embed = Embeddings(Embedding(config.vocab_size, config.hidden_size))
    return Stack(embed, [layer(i) for i in range(config.num_hidden_layers)], norm(config))


def build(config: LlamaConfig) -> Stack:
    positions = rotary(config.head_width, config.rope_parameters, config.max_position_embeddings)
    return decoder(config, lambda _: layer(config, attention(config, positions), feed_forward(config)))


def keys(config: LlamaConfig) -> KeyMap:
    rows: Rows = {
        "embed.token": "embed_tokens",
        "layers.*.attention.step.q": "layers.*.self_attn.q_proj",
        "layers.*.attention.step.k": "layers.*.self_attn.k_proj",
        "layers.*.attention.step.v": "layers.*.self_attn.v_proj",
        "layers.*.attention.step.out": "layers.*.self_attn.o_proj",
        "layers.*.attention.before": "layers.*.input_layernorm",
        "layers.*.ffn.step.gate": "layers.*.mlp.gate_proj",
        "layers.*.ffn.step.up": "layers.*.mlp.up_proj",
        "layers.*.ffn.step.down": "layers.*.mlp.down_proj",
        "layers.*.ffn.before": "layers.*.post_attention_layernorm",
        "norm": "norm",
    }
    copies = (r"^lm_head\.weight$",) if config.tie_word_embeddings else ()
    return KeyMap(rows, "model.", prefixes=("transformer.",), ignored=(r"rotary_emb\.inv_freq$", *copies))


def gguf_keys(config: LlamaConfig) -> KeyMap:
    """llama.cpp's names for Llama-like decoders; its query and key rows are interleaved."""
    rows: Rows = {
        "embed.token": "token_embd",
        "layers.*.attention.step.q": Interleaved("blk.*.attn_q", config.num_attention_heads),
        "layers.*.attention.step.k": Interleaved(
            "blk.*.attn_k", config.num_key_value_heads or config.num_attention_heads
        ),
        "layers.*.attention.step.v": "blk.*.attn_v",
        "layers.*.attention.step.out": "blk.*.attn_output",
        "layers.*.attention.before": "blk.*.attn_norm",
        "layers.*.ffn.step.gate": "blk.*.ffn_gate",
        "layers.*.ffn.step.up": "blk.*.ffn_up",
        "layers.*.ffn.step.down": "blk.*.ffn_down",
        "layers.*.ffn.before": "blk.*.ffn_norm",
        "norm": "output_norm",
        "/table": "output",
    }
    copies = (r"^output\.weight$",) if config.tie_word_embeddings else ()
    return KeyMap(rows, ignored=(r"^rope_freqs\.weight$", *copies))


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """config.json entries from a GGUF file's `llama.*` metadata.

    Raises:
        UnsupportedConfig: a scaling of positions that is not computed here.
    """
    kind = metadata["general.architecture"]
    scaling = metadata.get(f"{kind}.rope.scaling.type", "none")
    if scaling != "none":
        raise UnsupportedConfig(f"{kind}.rope.scaling.type = {scaling!r} is not computed for GGUF files; only 'none'.")
    names = {
        "hidden_size": "embedding_length",
        "intermediate_size": "feed_forward_length",
        "num_hidden_layers": "block_count",
        "num_attention_heads": "attention.head_count",
        "num_key_value_heads": "attention.head_count_kv",
        "head_dim": "attention.key_length",
        "rms_norm_eps": "attention.layer_norm_rms_epsilon",
        "max_position_embeddings": "context_length",
        "vocab_size": "vocab_size",
    }
    entries = {ours: metadata[f"{kind}.{theirs}"] for ours, theirs in names.items() if f"{kind}.{theirs}" in metadata}
    return {**entries, "rope_theta": metadata.get(f"{kind}.rope.freq_base", 10000.0)}


def generate(config: LlamaConfig, backbone: Stack) -> Head:
    if config.tie_word_embeddings:
        return Head(LanguageModel(backbone.embed.token))
    return Head(LanguageModel(Linear(config.hidden_size, config.vocab_size, bias=False)), {"table": "/lm_head"})


def classify_text(config: LlamaConfig, backbone: Stack) -> Head:
    return Head(Classifier(config.hidden_size, config.num_labels, pool=last, bias=False), {"out": "/score"})


def classify_tokens(config: LlamaConfig, backbone: Stack) -> Head:
    head = Classifier(config.hidden_size, config.num_labels, dropout=config.classifier_dropout)
    return Head(head, {"out": "/score"})


def answer(config: LlamaConfig, backbone: Stack) -> Head:
    return Head(Classifier(config.hidden_size, 2), {"out": "/qa_outputs"}, prefix="transformer.")


ARCHITECTURE = Architecture(
    "Llama",
    LlamaConfig,
    build,
    keys,
    heads={
        "Model": None,
        "ForCausalLM": generate,
        "ForSequenceClassification": classify_text,
        "ForTokenClassification": classify_tokens,
        "ForQuestionAnswering": answer,
    },
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": gguf_config},
)
