"""GPT-2 (Radford et al., 2019): a pre-norm decoder with learned positions. StarCoder's GPT-BigCode: one key head."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Part, PerHead, Source, Transposed
from ..config import Config, Count, Size
from ..heads.heads import Classifier, Head
from ..nn.attention.attention import Attention, CrossAttention
from ..nn.embeddings import Embeddings, LearnedPositions
from ..nn.feedforward import FeedForward
from ..nn.layer import CrossLayer, Layer, Residual
from ..nn.stack import Stack
from ..nn.weights import Embedding, LayerNorm
from . import llama
from .common import double_heads, gguf
from .common.architecture import Architecture, MakeHead


@dataclass(kw_only=True)
class GPTConfig(Config):
    """Config entries that GPT, GPT-2 and their like share."""

    inert: ClassVar[tuple[str, ...]] = ("n_ctx",)  # the positions are `n_positions`
    aliases: ClassVar[Mapping[str, str]] = {
        "hidden_size": "n_embd",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "max_position_embeddings": "n_positions",
    }

    vocab_size: Size = 50257
    n_positions: Size = 1024
    n_embd: Size = 768
    n_layer: Count = 12
    n_head: Size = 12
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02


@dataclass(kw_only=True)
class GPT2Config(GPTConfig):
    model_type = "gpt2"

    n_inner: Size | None = None
    activation_function: str = "gelu_new"
    attn_pdrop: float = 0.1
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    add_cross_attention: bool = False
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256


@dataclass(kw_only=True)
class GPTBigCodeConfig(GPT2Config):
    model_type = "gpt_bigcode"
    inert = ("n_ctx", "num_key_value_heads")  # follows from multi_query

    activation_function: str = "gelu_pytorch_tanh"
    multi_query: bool = True
    scale_attn_by_inverse_layer_idx: Literal[False] = False
    add_cross_attention: Literal[False] = False


def norm(config: GPTConfig) -> nn.Module:
    return LayerNorm(config.n_embd, config.layer_norm_epsilon)


def step(config: GPT2Config, module: nn.Module) -> Residual:
    return Residual(module, before=norm(config), dropout=config.resid_pdrop)


def feed_forward(config: GPT2Config) -> Residual:
    return step(config, FeedForward(config.n_embd, config.n_inner or 4 * config.n_embd, config.activation_function))


def decoder(config: GPT2Config, layer: Callable[[int], nn.Module]) -> Stack:
    embed = Embeddings(
        Embedding(config.vocab_size, config.n_embd),
        position=LearnedPositions(config.n_positions, config.n_embd),
        dropout=config.embd_pdrop,
        worded=True,
    )
    return Stack(embed, [layer(i) for i in range(config.n_layer)], norm(config))


def build(config: GPT2Config) -> Stack:
    width = config.n_embd

    def layer(i: int) -> Layer:
        scale = (width // config.n_head) ** -0.5 if config.scale_attn_weights else 1.0
        scale = scale / (i + 1) if config.scale_attn_by_inverse_layer_idx else scale
        settings: dict[str, Any] = {"scale": scale, "dropout": config.attn_pdrop}
        attention = step(config, Attention(width, config.n_head, causal=True, **settings))
        if config.add_cross_attention:
            cross = step(config, CrossAttention(width, config.n_head, **settings))
            return CrossLayer(attention, cross, feed_forward(config))
        return Layer(attention, feed_forward(config))

    return decoder(config, layer)


def build_bigcode(config: GPTBigCodeConfig) -> Stack:
    def layer(i: int) -> Layer:
        scale = None if config.scale_attn_weights else 1.0
        key_heads = 1 if config.multi_query else config.n_head
        settings: dict[str, Any] = {"scale": scale, "dropout": config.attn_pdrop, "causal": True}
        attention = Attention(config.n_embd, config.n_head, key_heads=key_heads, **settings)
        return Layer(step(config, attention), feed_forward(config))

    return decoder(config, layer)


def rows(part: Callable[[str], Source]) -> dict[str, str | Source]:
    """Return the rows without query, key and value; `part` makes the source of a matrix."""
    return {
        "embed.token": "wte",
        "embed.position.table": "wpe",
        "layers.*.attention.before": "h.*.ln_1",
        "layers.*.attention.step.out": part("h.*.attn.c_proj"),
        "layers.*.ffn.before": "h.*.ln_2",
        "layers.*.ffn.step.up": part("h.*.mlp.c_fc"),
        "layers.*.ffn.step.down": part("h.*.mlp.c_proj"),
        "norm": "ln_f",
    }


def key_map(config: GPT2Config, rows: Mapping[str, str | Source]) -> KeyMap:
    copies = (r"^lm_head\.weight$",) if config.tie_word_embeddings else ()
    ignored = (r"h\.\d+\.(attn|crossattention)\.(masked_)?bias$", *copies)
    return KeyMap(rows, "transformer.", ignored=ignored)


def keys(config: GPT2Config) -> KeyMap:
    fused = {
        f"layers.*.attention.step.{name}": Part("h.*.attn.c_attn", (config.n_embd,) * 3, i, True)
        for i, name in enumerate(("q", "k", "v"))
    }
    if not config.add_cross_attention:
        return key_map(config, {**rows(Transposed), **fused})
    cross: dict[str, str | Source] = {
        "layers.*.cross.before": "h.*.ln_cross_attn",
        "layers.*.cross.step.q": Transposed("h.*.crossattention.q_attn"),
        "layers.*.cross.step.out": Transposed("h.*.crossattention.c_proj"),
    }
    for i, name in enumerate(("k", "v")):
        cross[f"layers.*.cross.step.{name}"] = Part("h.*.crossattention.c_attn", (config.n_embd,) * 2, i, True)
    return key_map(config, {**rows(Transposed), **fused, **cross})


def keys_bigcode(config: GPTBigCodeConfig) -> KeyMap:
    width, head = config.n_embd, config.n_embd // config.n_head

    def part(i: int) -> Source:
        if config.multi_query:
            return Part("h.*.attn.c_attn", (width, head, head), i)
        return PerHead("h.*.attn.c_attn", config.n_head, (1, 1, 1), i)

    fused = {f"layers.*.attention.step.{name}": part(i) for i, name in enumerate(("q", "k", "v"))}
    return key_map(config, {**rows(Source), **fused})


def classify_tokens(config: Any, backbone: Stack) -> Head:
    dropout = getattr(config, "classifier_dropout", None) or 0.1
    return Head(Classifier(config.hidden_size, config.num_labels, dropout=dropout), {"out": "/classifier"})


def gguf_keys(config: GPT2Config) -> KeyMap:
    """Return the key map of llama.cpp's names; it stores every matrix as (out, in)."""
    fused = {
        f"layers.*.attention.step.{name}": Part("blk.*.attn_qkv", (config.n_embd,) * 3, i)
        for i, name in enumerate(("q", "k", "v"))
    }
    own: dict[str, str | Source] = {**fused, "embed.position.table": "position_embd"}
    return gguf.llama_keys(config, own, without=("layers.*.ffn.step.gate",))


def gguf_keys_bigcode(config: GPTBigCodeConfig) -> KeyMap:
    width, head = config.n_embd, config.n_embd // config.n_head
    fused = {
        f"layers.*.attention.step.{name}": Part("blk.*.attn_qkv", (width, head, head), i)
        for i, name in enumerate(("q", "k", "v"))
    }
    return replace(gguf_keys(config), rows={**gguf_keys(config).rows, **fused})


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    own = {"n_embd": "hidden_size", "n_inner": "intermediate_size", "n_layer": "num_hidden_layers"}
    own |= {"n_head": "num_attention_heads", "n_positions": "max_position_embeddings"}
    return gguf.entries(metadata, (), layer_norm_epsilon="layer_norm_eps", **own)


HEADS: Mapping[str, MakeHead | None] = {
    "Model": None,
    "LMHeadModel": llama.generate,
    "ForSequenceClassification": llama.classify_text,
    "ForTokenClassification": classify_tokens,
    "ForQuestionAnswering": llama.answer,
    "DoubleHeadsModel": double_heads.both,
}
ARCHITECTURE = Architecture(
    "GPT2",
    GPT2Config,
    build,
    keys,
    HEADS,
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": gguf_config},
    head_types={"DoubleHeadsModel": double_heads.HEAD_TYPE},
    inputs={"mc_token_ids": double_heads.places},
)
BIGCODE = ARCHITECTURE.derive(
    "GPTBigCode",
    GPTBigCodeConfig,
    build_bigcode,
    keys=keys_bigcode,
    head_types={},
    inputs={},
    heads={
        "Model": None,
        "ForCausalLM": llama.generate,
        "ForSequenceClassification": llama.classify_text,
        "ForTokenClassification": classify_tokens,
    },
    layouts={"gguf": gguf_keys_bigcode},
    foreign_config={"gguf": gguf_config},
)
