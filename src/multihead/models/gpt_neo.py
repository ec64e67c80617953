"""GPT-Neo (Black et al., 2021): GPT-2's layers without score scaling, every other one with a window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..config import Config, Count, Size
from ..errors import UnsupportedConfig
from ..nn.attention.attention import Attention
from ..nn.embeddings import Embeddings, LearnedPositions
from ..nn.feedforward import FeedForward
from ..nn.layer import Layer, Residual
from ..nn.stack import Stack
from ..nn.weights import Embedding, LayerNorm
from . import llama
from .common.architecture import Architecture
from .gpt2 import classify_tokens


@dataclass(kw_only=True)
class GPTNeoConfig(Config):
    model_type = "gpt_neo"
    aliases: ClassVar[Mapping[str, str]] = {"num_hidden_layers": "num_layers", "num_attention_heads": "num_heads"}

    vocab_size: Size = 50257
    max_position_embeddings: Size = 2048
    hidden_size: Size = 2048
    num_layers: Count = 24
    num_heads: Size = 16
    attention_types: list[Any] = field(default_factory=lambda: [[["global", "local"], 12]])
    intermediate_size: Size | None = None
    window_size: Size = 256
    activation_function: str = "gelu_new"
    resid_dropout: float = 0.0
    embed_dropout: float = 0.0
    attention_dropout: float = 0.0
    classifier_dropout: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Drop `attention_layers`, which only spells out `attention_types`."""
        return {k: v for k, v in entries.items() if k != "attention_layers"}

    @property
    def attention_layers(self) -> list[str]:
        """Layer types by `attention_types`: pairs of types and repetitions."""
        try:
            if sum(count * len(kinds) for kinds, count in self.attention_types) > self.num_layers:
                raise ValueError(f"they are for more than {self.num_layers} layers")
            return [kind for kinds, count in self.attention_types for _ in range(count) for kind in kinds]
        except (TypeError, ValueError) as error:
            raise UnsupportedConfig(f"attention_types {self.attention_types!r} are no pairs: {error}.") from error

    def check(self) -> None:
        kinds = self.attention_layers
        if len(kinds) != self.num_layers or set(kinds) - {"global", "local"}:
            raise UnsupportedConfig(f"attention_types must give 'global' or 'local' {self.num_layers} times: {kinds}.")


def build(config: GPTNeoConfig) -> Stack:
    width = config.hidden_size

    def norm() -> LayerNorm:
        return LayerNorm(width, config.layer_norm_epsilon)

    def step(module: nn.Module) -> Residual:
        return Residual(module, before=norm(), dropout=config.resid_dropout)

    def layer(kind: str) -> Layer:
        window = config.window_size if kind == "local" else None
        settings: dict[str, Any] = {"scale": 1.0, "window": window, "dropout": config.attention_dropout}
        attention = Attention(width, config.num_heads, bias=False, out_bias=True, causal=True, **settings)
        ffn = FeedForward(width, config.intermediate_size or 4 * width, config.activation_function)
        return Layer(step(attention), step(ffn))

    embed = Embeddings(
        Embedding(config.vocab_size, width),
        position=LearnedPositions(config.max_position_embeddings, width),
        dropout=config.embed_dropout,
        worded=True,
    )
    return Stack(embed, [layer(kind) for kind in config.attention_layers], norm())


def keys(config: GPTNeoConfig) -> KeyMap:
    attention = {
        f"layers.*.attention.step.{ours}": f"h.*.attn.attention.{ours}_proj" for ours in ("q", "k", "v", "out")
    }
    rows = {
        "embed.token": "wte",
        "embed.position.table": "wpe",
        "layers.*.attention.before": "h.*.ln_1",
        "layers.*.ffn.before": "h.*.ln_2",
        "layers.*.ffn.step.up": "h.*.mlp.c_fc",
        "layers.*.ffn.step.down": "h.*.mlp.c_proj",
        "norm": "ln_f",
    }
    copies = (r"^lm_head\.weight$",) if config.tie_word_embeddings else ()
    ignored = (r"attn\.attention\.(masked_)?bias$", *copies)
    return KeyMap({**rows, **attention}, "transformer.", ignored=ignored)


ARCHITECTURE = Architecture(
    "GPTNeo",
    GPTNeoConfig,
    build,
    keys,
    heads={
        "Model": None,
        "ForCausalLM": llama.generate,
        "ForSequenceClassification": llama.classify_text,
        "ForTokenClassification": classify_tokens,
        "ForQuestionAnswering": llama.answer,
    },
)
