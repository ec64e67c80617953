"""MPT (MosaicML, 2023): a pre-norm decoder without biases, whose order comes from linear biases alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from ..checkpoints.key_map import KeyMap, Rows
from ..checkpoints.tensor_sources import Part
from ..config import Config, Count, Size
from ..errors import UnsupportedConfig
from ..nn.attention.alibi import Alibi, mpt_slopes
from ..nn.attention.attention import Attention
from ..nn.embeddings import Embeddings
from ..nn.feedforward import FeedForward
from ..nn.layer import Layer, Residual
from ..nn.stack import Stack
from ..nn.weights import Embedding, LayerNorm
from . import llama
from .common import gguf
from .common.architecture import Architecture
from .gpt2 import classify_tokens
from .gptj import head_copies

COMPUTED = {  # entries of attn_config and the only values that are
    "alibi": True,
    "alibi_bias_max": 8,
    "attn_type": "multihead_attention",
    "prefix_lm": False,
    "qk_ln": False,
}


@dataclass(kw_only=True)
class MptConfig(Config):
    model_type = "mpt"
    inert = ("embedding_fraction", "init_device", "learned_pos_emb")
    aliases: ClassVar[Mapping[str, str]] = {
        "hidden_size": "d_model",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "max_position_embeddings": "max_seq_len",
    }

    d_model: Size = 2048
    n_heads: Size = 16
    n_layers: Count = 24
    expansion_ratio: Literal[4] = 4
    max_seq_len: Size = 2048
    vocab_size: Size = 50368
    resid_pdrop: float = 0.0
    layer_norm_epsilon: float = 1e-5
    emb_pdrop: float = 0.0
    attn_config: dict[str, Any] = field(default_factory=dict)
    logit_scale: Literal[None] = None
    no_bias: Literal[True] = True
    norm_type: Literal["low_precision_layernorm"] = "low_precision_layernorm"
    initializer_range: float = 0.02

    def check(self) -> None:
        for name, computed in COMPUTED.items():
            if self.attn_config.get(name, computed) != computed:
                raise UnsupportedConfig(
                    f"attn_config.{name} is {self.attn_config[name]!r}; only {computed!r} is computed."
                )


def build(config: MptConfig) -> Stack:
    width, given = config.d_model, config.attn_config
    positions = Alibi(mpt_slopes(config.n_heads, 8))
    dropout = given.get("attn_pdrop") or 0.0

    def norm() -> LayerNorm:
        return LayerNorm(width, config.layer_norm_epsilon, bias=False)

    def layer() -> Layer:
        settings: dict[str, Any] = {"scale": given.get("softmax_scale"), "clip": given.get("clip_qkv") or None}
        attention = Attention(
            width, config.n_heads, bias=False, positions=positions, causal=True, dropout=dropout, **settings
        )
        ffn = FeedForward(width, 4 * width, "gelu", bias=False)
        first, second = (Residual(step, before=norm(), dropout=dropout) for step in (attention, ffn))
        return Layer(first, second)

    return Stack(Embeddings(Embedding(config.vocab_size, width)), [layer() for _ in range(config.n_layers)], norm())


def keys(config: MptConfig) -> KeyMap:
    rows: Rows = {
        "embed.token": "wte",
        **{
            f"layers.*.attention.step.{name}": Part("blocks.*.attn.Wqkv", (config.d_model,) * 3, i)
            for i, name in enumerate(("q", "k", "v"))
        },
        "layers.*.attention.before": "blocks.*.norm_1",
        "layers.*.attention.step.out": "blocks.*.attn.out_proj",
        "layers.*.ffn.before": "blocks.*.norm_2",
        "layers.*.ffn.step.up": "blocks.*.ffn.up_proj",
        "layers.*.ffn.step.down": "blocks.*.ffn.down_proj",
        "norm": "norm_f",
    }
    return KeyMap(rows, "transformer.", ignored=head_copies(config))


def gguf_keys(config: MptConfig) -> KeyMap:
    own: Rows = {
        f"layers.*.attention.step.{name}": Part("blk.*.attn_qkv", (config.d_model,) * 3, i)
        for i, name in enumerate(("q", "k", "v"))
    }
    return gguf.llama_keys(config, own, without=("layers.*.ffn.step.gate",))


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return config entries of a GGUF file. Raises UnsupportedConfig for learned positions, or norms of queries."""
    own = {"d_model": "hidden_size", "n_layers": "num_hidden_layers", "n_heads": "num_attention_heads"}
    own |= {"max_seq_len": "max_position_embeddings", "layer_norm_epsilon": "layer_norm_eps"}
    told = gguf.named(metadata, alibi_bias_max="attention.max_alibi_bias", clip_qkv="attention.clamp_kqv")
    told["alibi"] = told.get("alibi_bias_max") != 0
    return {**gguf.entries(metadata, (), **own), "attn_config": told}


ARCHITECTURE = Architecture(
    "Mpt",
    MptConfig,
    build,
    keys,
    heads={
        "Model": None,
        "ForCausalLM": llama.generate,
        "ForSequenceClassification": llama.classify_text,
        "ForTokenClassification": classify_tokens,
        "ForQuestionAnswering": llama.answer,
    },
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": gguf_config},
    reads_positions=False,
)
