"""SqueezeBERT (Iandola et al., 2020, arXiv:2006.11316): BERT whose matrices fall into groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Shaped, Source
from ..config import Size
from ..errors import UnsupportedConfig
from ..nn.attention.attention import Attention
from ..nn.feedforward import FeedForward
from ..nn.layer import Layer, Residual
from ..nn.stack import Stack
from ..nn.weights import GroupedLinear, LayerNorm
from . import bert

LAYER_EPS = 1e-12  # of the norms inside layers; the config's is the embeddings'


@dataclass(kw_only=True)
class SqueezeBertConfig(bert.BertConfig):
    model_type = "squeezebert"

    embedding_size: Size = 768
    q_groups: Size = 4
    k_groups: Size = 4
    v_groups: Size = 4
    post_attention_groups: Size = 1
    intermediate_groups: Size = 4
    output_groups: Size = 4
    is_decoder: Literal[False] = False
    add_cross_attention: Literal[False] = False

    def check(self) -> None:
        if self.embedding_size != self.hidden_size:
            raise UnsupportedConfig(f"embedding_size {self.embedding_size} must be hidden_size {self.hidden_size}.")

    @property
    def matrices(self) -> dict[str, tuple[str, int, int, int]]:
        """Return the stored name, inputs, outputs and groups of each matrix, by our path in a layer."""
        width, inner = self.hidden_size, self.intermediate_size
        return {
            "attention.step.q": ("attention.query", width, width, self.q_groups),
            "attention.step.k": ("attention.key", width, width, self.k_groups),
            "attention.step.v": ("attention.value", width, width, self.v_groups),
            "attention.step.out": ("post_attention.conv1d", width, width, self.post_attention_groups),
            "ffn.step.up": ("intermediate.conv1d", width, inner, self.intermediate_groups),
            "ffn.step.down": ("output.conv1d", inner, width, self.output_groups),
        }


def build(config: SqueezeBertConfig) -> Stack:
    width = config.hidden_size

    def step(module: nn.Module) -> Residual:
        return Residual(module, after=LayerNorm(width, LAYER_EPS), dropout=config.hidden_dropout_prob)

    def layer() -> Layer:
        parts = {path.rpartition(".")[2]: GroupedLinear(*sizes) for path, (_, *sizes) in config.matrices.items()}
        ffn = FeedForward(
            width, config.intermediate_size, config.hidden_act, up=parts.pop("up"), down=parts.pop("down")
        )
        dropout = config.attention_probs_dropout_prob
        attention = Attention(width, config.num_attention_heads, projections=parts, dropout=dropout)
        return Layer(step(attention), step(ffn))

    embed = bert.embeddings(config)
    return Stack(embed, [layer() for _ in range(config.num_hidden_layers)])


def keys(config: SqueezeBertConfig) -> KeyMap:
    rows: dict[str, str | Source] = {**bert.EMBEDDING_ROWS}
    for path, (name, inputs, outputs, groups) in config.matrices.items():
        shape = (outputs, inputs // groups)
        rows[f"layers.*.{path}.weight"] = Shaped(f"encoder.layers.*.{name}.weight", shape, (*shape, 1))
        rows[f"layers.*.{path}.bias"] = f"encoder.layers.*.{name}.bias"
    rows["layers.*.attention.after"] = "encoder.layers.*.post_attention.layernorm"
    rows["layers.*.ffn.after"] = "encoder.layers.*.output.layernorm"
    ignored = (r"embeddings\.position_ids$", *bert.copies(config, "cls.predictions"))
    return KeyMap(rows, "transformer.", ignored=ignored, aliases=bert.aliases(config, "cls.predictions"))


HEADS = {end: bert.ARCHITECTURE.heads[end] for end in ("Model", "ForSequenceClassification", "ForMultipleChoice")}
HEADS |= {end: bert.beside_pooler(bert.ARCHITECTURE.heads[end]) for end in bert.WITHOUT_POOLER}
ARCHITECTURE = bert.ARCHITECTURE.derive("SqueezeBert", SqueezeBertConfig, build, keys=keys, heads=HEADS)
