"""Llama (Touvron et al., 2023, arXiv:2302.13971), and the parts that its relatives put together again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import nn

from ..checkpoints.key_map import KeyMap, Rows
from ..checkpoints.tensor_sources import Source
from ..config import Count, Size
from ..errors import UnsupportedConfig
from ..heads.heads import Classifier, Head, LanguageModel, last_word
from ..nn.activations import LEARNED
from ..nn.attention.attention import Attention
from ..nn.embeddings import Embeddings
from ..nn.feedforward import GatedFeedForward
from ..nn.layer import Layer, Residual
from ..nn.norms import RMSNorm
from ..nn.positions import Positions
from ..nn.stack import Stack
from ..nn.weights import Embedding, Linear
from .common import gguf
from .common.architecture import Architecture, MakeHead
from .common.patterns import rotary_of
from .common.rotary_config import RotaryConfig

Norm = Callable[[Any], nn.Module]


@dataclass(kw_only=True)
class LlamaConfig(RotaryConfig):
    model_type = "llama"
    inert: ClassVar[tuple[str, ...]] = ("rope_interleaved",)

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
    attention_bias: bool = False
    attention_dropout: float = 0.0
    classifier_dropout: float = 0.1
    mlp_bias: bool = False
    tie_word_embeddings: bool = False
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2

    def check(self) -> None:
        if self.head_dim is None and self.hidden_size % self.num_attention_heads:
            raise UnsupportedConfig(
                f"hidden_size = {self.hidden_size} is no multiple of num_attention_heads = {self.num_attention_heads}."
            )

    @property
    def head_width(self) -> int:
        return self.head_dim or self.hidden_size // self.num_attention_heads


def norm(config: Any) -> nn.Module:
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


def layer(config: Any, attention: nn.Module, ffn: nn.Module, norm: Norm = norm, **changes: Any) -> Layer:
    """Build a pre-norm layer; `changes` are options of both residuals."""
    return Layer(Residual(attention, before=norm(config), **changes), Residual(ffn, before=norm(config), **changes))


def decoder(
    config: Any, layer: Callable[[int], nn.Module], norm: Norm = norm, token: nn.Embedding | None = None, **embed: Any
) -> Stack:
    """Build a stack: token embeddings, `layer(i)` for each i, and a last norm."""
    words = Embeddings(token or Embedding(config.vocab_size, config.hidden_size), **embed)
    return Stack(words, [layer(i) for i in range(config.num_hidden_layers)], norm(config))


def build(config: LlamaConfig) -> Stack:
    positions = rotary_of(config, config.head_width)
    return decoder(config, lambda _: layer(config, attention(config, positions), feed_forward(config)))


def keys(config: Any, more: Rows | None = None, without: tuple[str, ...] = ()) -> KeyMap:
    """Return Llama's key map, with a relative's own rows and without those that it lacks."""
    rows: dict[str, str | Source] = {
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
        **(more or {}),
    }
    if getattr(config, "hidden_act", None) in LEARNED:
        rows["layers.*.ffn.step.act"] = "layers.*.mlp.act_fn"
    used = {ours: theirs for ours, theirs in rows.items() if ours not in without}
    copies = (r"^lm_head\.weight$",) if config.tie_word_embeddings else ()
    ignored = (r"rotary_emb\.inv_freq$", *copies)
    return KeyMap(used, "model.", prefixes=("transformer.",), ignored=ignored)


GGUF_NAMES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "rms_norm_eps",
    "max_position_embeddings",
    "vocab_size",
)


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config.json entries of a GGUF file's metadata. Only its tensors tell that there are biases."""
    first = "blk.0.attn_q.bias", "blk.0.attn_output.bias"
    biases = {"attention_bias": first, "mlp_bias": ("blk.0.ffn_up.bias", "blk.0.ffn_down.bias")}
    found = {name: True for name, tensors in biases.items() if gguf.has(metadata, *tensors)}
    return {**gguf.entries(metadata, GGUF_NAMES), **found}


def own_gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a file of Llama's architecture, which is Mixtral's too: that has experts."""
    found = gguf_config(metadata)
    if metadata.get("llama.expert_count"):
        own = gguf.named(metadata, num_local_experts="expert_count", num_experts_per_tok="expert_used_count")
        found |= {"model_type": "mixtral", **own}
    return found


def generate(config: Any, backbone: Stack, **changes: Any) -> Head:
    """Build the language model head; `changes` are options of `LanguageModel`."""
    if config.tie_word_embeddings:
        return Head(LanguageModel(backbone.embed.token, **changes))
    table = Linear(config.hidden_size, config.vocab_size, bias=False)
    return Head(LanguageModel(table, **changes), {"table": "/lm_head"})


def classify_text(config: Any, backbone: Stack) -> Head:
    return Head(
        Classifier(config.hidden_size, config.num_labels, pool=last_word(config), bias=False), {"out": "/score"}
    )


def classify_tokens(config: Any, backbone: Stack) -> Head:
    dropout = getattr(config, "classifier_dropout", 0.1)
    return Head(Classifier(config.hidden_size, config.num_labels, dropout=dropout), {"out": "/score"})


def answer(config: Any, backbone: Stack, prefix: str | None = "transformer.") -> Head:
    return Head(Classifier(config.hidden_size, 2), {"out": "/qa_outputs"}, prefix=prefix)


HEADS: Mapping[str, MakeHead | None] = {
    "Model": None,
    "ForCausalLM": generate,
    "ForSequenceClassification": classify_text,
    "ForTokenClassification": classify_tokens,
    "ForQuestionAnswering": answer,
}
ARCHITECTURE = Architecture(
    "Llama",
    LlamaConfig,
    build,
    keys,
    heads=HEADS,
    layouts={"gguf": partial(gguf.llama_keys, turned=True)},
    foreign_config={"gguf": own_gguf_config},
)
