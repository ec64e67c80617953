"""Jina embeddings v2 (Günther et al., 2023, arXiv:2310.19923): BERT with linear biases both ways and gates.

Its files call themselves `bert`. The ones for code (`jina-bert-v2-qk-post-norm`) also normalize queries and keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Part, Source
from ..nn.attention.alibi import SymmetricAlibi, slopes
from ..nn.feedforward import FeedForward, GatedFeedForward
from ..nn.norms import AllHeadsNorm
from ..nn.stack import Stack
from ..nn.weights import LayerNorm, Linear
from . import bert


@dataclass(kw_only=True)
class JinaBertConfig(bert.BertConfig):
    model_type = "jina_bert"
    inert = ("emb_pooler", "attn_implementation", "model_max_length")

    position_embedding_type: Literal["alibi"] = "alibi"  # type: ignore[assignment]
    feed_forward_type: Literal["original", "geglu", "reglu"] = "original"
    qk_norm: bool = False

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Read from the name of a file's own code whether queries and keys are normalized."""
        return {"qk_norm": "qk-post-norm" in str(entries.get("auto_map")), **entries}


def resolve_config(config: JinaBertConfig, stored: Mapping[str, Tensor]) -> JinaBertConfig:
    """Complete a config by what the tensors tell: norms of queries and keys."""
    return config.changed(qk_norm=any(name.endswith("attention.self.layer_norm_q.weight") for name in stored))


def feed_forward(config: JinaBertConfig) -> nn.Module:
    width, inner, dropout = config.hidden_size, config.intermediate_size, config.hidden_dropout_prob
    if config.feed_forward_type == "original":
        return FeedForward(width, inner, config.hidden_act)
    act = "gelu" if config.feed_forward_type == "geglu" else "relu"
    return GatedFeedForward(width, inner, act, down=Linear(inner, width), dropout=dropout)


def build(config: JinaBertConfig) -> Stack:
    positions = SymmetricAlibi(slopes(config.num_attention_heads))

    def norm() -> nn.Module | None:
        return AllHeadsNorm(LayerNorm(config.hidden_size, config.layer_norm_eps)) if config.qk_norm else None

    def layer() -> nn.Module:
        return bert.layer(config, ffn=feed_forward(config), positions=positions, q_norm=norm(), k_norm=norm())

    return Stack(bert.embeddings(config, order=False), [layer() for _ in range(config.num_hidden_layers)])


def keys(config: JinaBertConfig) -> KeyMap:
    embeddings = {ours: theirs for ours, theirs in bert.EMBEDDING_ROWS.items() if ours != "embed.position.table"}
    rows: dict[str, str | Source] = {**embeddings, **bert.LAYER_ROWS}
    if config.qk_norm:
        rows |= {
            f"layers.*.attention.step.{n}_norm.norm": f"encoder.layer.*.attention.self.layer_norm_{n}" for n in "qk"
        }
        rows |= {
            "layers.*.attention.after": "encoder.layer.*.layer_norm_1",
            "layers.*.ffn.after": "encoder.layer.*.layer_norm_2",
        }
    if config.feed_forward_type != "original":
        fused, down = ("up_gated_layer", "down_layer") if config.qk_norm else ("gated_layers", "wo")
        order = ("up", "gate") if config.qk_norm else ("gate", "up")
        parts = (config.intermediate_size,) * 2
        rows |= {f"layers.*.ffn.step.{n}": Part(f"encoder.layer.*.mlp.{fused}", parts, i) for i, n in enumerate(order)}
        rows["layers.*.ffn.step.down"] = f"encoder.layer.*.mlp.{down}"
        if not config.qk_norm:
            rows["layers.*.ffn.after"] = "encoder.layer.*.mlp.layernorm"
    return KeyMap(
        rows,
        "bert.",
        ignored=(r"embeddings\.position_ids$", *bert.copies(config, "cls.predictions")),
        aliases=bert.aliases(config, "cls.predictions"),
    )


ARCHITECTURE = bert.ARCHITECTURE.derive("JinaBert", JinaBertConfig, build, keys=keys, resolve_config=resolve_config)
