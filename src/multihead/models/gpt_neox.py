"""GPT-NeoX and Pythia (Black et al., 2022, arXiv:2204.06745): parallel layers, rotary positions on a quarter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Part, PerHead, Source
from ..config import Count, Size
from ..errors import UnsupportedConfig
from ..heads.heads import Head, LanguageModel
from ..nn.attention.attention import Attention
from ..nn.embeddings import Embeddings
from ..nn.feedforward import FeedForward
from ..nn.layer import Layer, ParallelLayer, Residual
from ..nn.stack import Stack
from ..nn.weights import Embedding, LayerNorm, Linear
from . import llama
from .common import gguf
from .common.architecture import Architecture
from .common.patterns import rope_entries, rotary_of
from .common.rotary_config import RotaryConfig
from .gpt2 import classify_tokens


def rotary_entries(entries: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """Return config.json entries with `rotary_emb_base` and `rotary_pct` merged into `rope_parameters`.

    Args:
        factor: part of a head's channels that is turned by default.

    Raises:
        UnsupportedConfig: the names of other families, which the reference does not read, say something else.
    """
    entries = dict(entries)
    known = entries.get("rope_scaling") or entries.get("rope_parameters")
    rope = known if isinstance(known, Mapping) else {}
    for name, own, usual in (
        ("rope_theta", "rotary_emb_base", 10000.0), ("partial_rotary_factor", "rotary_pct", factor)
    ):  # fmt: skip
        said, value = entries.pop(name, None), entries.pop(own, usual)
        read = rope.get(name, value)
        if said not in (None, read):
            raise UnsupportedConfig(f"{name} = {said!r} is not read here, where it is {read!r}: use {own}.")
        entries[name] = value
    return rope_entries(entries, theta=10000.0, factor=factor)


@dataclass(kw_only=True)
class GPTNeoXConfig(RotaryConfig):
    model_type = "gpt_neox"
    rotary_factor: ClassVar[float] = 0.25
    inert = ("attention_probs_dropout_prob", "hidden_dropout_prob")

    vocab_size: Size = 50432
    hidden_size: Size = 6144
    num_hidden_layers: Count = 44
    num_attention_heads: Size = 64
    intermediate_size: Size = 24576
    hidden_act: str = "gelu"
    attention_dropout: float = 0.0
    hidden_dropout: float = 0.0
    classifier_dropout: float = 0.1
    max_position_embeddings: Size = 2048
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5
    use_parallel_residual: bool = True
    attention_bias: bool = True
    tie_word_embeddings: bool = False
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Read `rotary_emb_base` and `rotary_pct` of old files."""
        return rotary_entries(entries, cls.rotary_factor)


def build(config: GPTNeoXConfig) -> Stack:
    width, heads = config.hidden_size, config.num_attention_heads
    positions = rotary_of(config, width // heads)

    def norm() -> LayerNorm:
        return LayerNorm(width, config.layer_norm_eps)

    def layer() -> nn.Module:
        settings: dict[str, Any] = {"bias": config.attention_bias, "dropout": config.attention_dropout}
        attention = Attention(width, heads, positions=positions, causal=True, **settings)
        ffn = FeedForward(width, config.intermediate_size, config.hidden_act)
        if config.use_parallel_residual:
            return ParallelLayer(attention, ffn, norm(), ffn_norm=norm(), dropout=config.hidden_dropout)
        first, second = (Residual(m, before=norm(), dropout=config.hidden_dropout) for m in (attention, ffn))
        return Layer(first, second)

    embed = Embeddings(Embedding(config.vocab_size, width), dropout=config.hidden_dropout)
    return Stack(embed, [layer() for _ in range(config.num_hidden_layers)], norm())


def keys(config: GPTNeoXConfig) -> KeyMap:
    parallel_ffn = config.use_parallel_residual
    attention, ffn = ("attention", "ffn") if parallel_ffn else ("attention.step", "ffn.step")
    fused: Mapping[str, Source] = {
        f"layers.*.{attention}.{name}": PerHead(
            "layers.*.attention.query_key_value", config.num_attention_heads, (1, 1, 1), i
        )
        for i, name in enumerate(("q", "k", "v"))
    }
    rows = {
        "embed.token": "embed_in",
        f"layers.*.{'norm' if parallel_ffn else 'attention.before'}": "layers.*.input_layernorm",
        f"layers.*.{'ffn_norm' if parallel_ffn else 'ffn.before'}": "layers.*.post_attention_layernorm",
        f"layers.*.{attention}.out": "layers.*.attention.dense",
        f"layers.*.{ffn}.up": "layers.*.mlp.dense_h_to_4h",
        f"layers.*.{ffn}.down": "layers.*.mlp.dense_4h_to_h",
        "norm": "final_layer_norm",
    }
    copies = (r"^embed_out\.weight$",) if config.tie_word_embeddings else ()
    ignored = (r"attention\.(masked_)?bias$", r"rotary_emb\.inv_freq$", *copies)
    return KeyMap({**rows, **fused}, "gpt_neox.", ignored=ignored, renamed=((r"^lm_head\.", "embed_out."),))


def gguf_keys(config: GPTNeoXConfig) -> KeyMap:
    """Return the key map of llama.cpp's names, with all queries before all keys before all values."""
    attention, ffn = ("attention", "ffn") if config.use_parallel_residual else ("attention.step", "ffn.step")
    sizes = (config.hidden_size,) * 3
    rows: dict[str, str | Source] = {
        "embed.token": "token_embd",
        **{f"layers.*.{attention}.{name}": Part("blk.*.attn_qkv", sizes, i) for i, name in enumerate("qkv")},
        f"layers.*.{'norm' if config.use_parallel_residual else 'attention.before'}": "blk.*.attn_norm",
        f"layers.*.{'ffn_norm' if config.use_parallel_residual else 'ffn.before'}": "blk.*.ffn_norm",
        f"layers.*.{attention}.out": "blk.*.attn_output",
        f"layers.*.{ffn}.up": "blk.*.ffn_up",
        f"layers.*.{ffn}.down": "blk.*.ffn_down",
        "norm": "output_norm",
        "/table": "output",
    }
    return KeyMap(rows, ignored=(r"^output\.weight$",) if config.tie_word_embeddings else ())


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")
    found = gguf.entries(metadata, (*names, "layer_norm_eps", "vocab_size"))
    own = gguf.named(metadata, use_parallel_residual="use_parallel_residual")
    turned = gguf.rotary_factor(metadata, found["hidden_size"] // found["num_attention_heads"])
    return {**found, **own, **({"rotary_pct": turned["partial_rotary_factor"]} if turned else {})}


def generate(config: GPTNeoXConfig, backbone: Stack) -> Head:
    if config.tie_word_embeddings:
        return Head(LanguageModel(backbone.embed.token))
    return Head(LanguageModel(Linear(config.hidden_size, config.vocab_size, bias=False)), {"table": "/embed_out"})


def answer(config: GPTNeoXConfig, backbone: Stack) -> Head:
    return llama.answer(config, backbone, prefix=None)


ARCHITECTURE = Architecture(
    "GPTNeoX",
    GPTNeoXConfig,
    build,
    keys,
    heads={
        "Model": None,
        "ForCausalLM": generate,
        "ForSequenceClassification": llama.classify_text,
        "ForTokenClassification": classify_tokens,
        "ForQuestionAnswering": answer,
    },
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": gguf_config},
)
