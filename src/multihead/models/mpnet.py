"""MPNet (Song et al., 2020, arXiv:2004.09297): BERT with a bias of attention by distance, which all layers share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..checkpoints.key_map import KeyMap, Rows
from ..config import Config, Count, Size
from ..nn.attention.position_bias import BucketedBias
from ..nn.stack import Stack
from . import bert, roberta

PADDING = 1  # positions start behind it, whatever the config's padding is
BUCKETS = 32  # of distances, however many rows the config gives their table


@dataclass(kw_only=True)
class MPNetConfig(Config):
    model_type = "mpnet"

    vocab_size: Size = 30527
    hidden_size: Size = 768
    num_hidden_layers: Count = 12
    num_attention_heads: Size = 12
    intermediate_size: Size = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    classifier_dropout: float | None = None
    max_position_embeddings: Size = 512
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    relative_attention_num_buckets: Annotated[int, range(BUCKETS, 2**31)] = BUCKETS
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2


def build(config: MPNetConfig) -> Stack:
    rows = config.relative_attention_num_buckets
    bias = BucketedBias(config.num_attention_heads, buckets=BUCKETS, reach=128, causal=False, rows=rows)
    embed = bert.embeddings(config, padding=PADDING, types=False)
    return Stack(embed, [bert.layer(config, positions=bias) for _ in range(config.num_hidden_layers)])


def keys(config: MPNetConfig) -> KeyMap:
    rows: Rows = {
        **{ours: theirs for ours, theirs in bert.EMBEDDING_ROWS.items() if ours != "embed.segment"},
        **bert.LAYER_ROWS,
        **{f"layers.*.attention.step.{n}": f"encoder.layer.*.attention.attn.{n}" for n in ("q", "k", "v")},
        "layers.*.attention.step.out": "encoder.layer.*.attention.attn.o",
        "layers.*.attention.step.positions.table": "encoder.relative_attention_bias",
        "layers.*.attention.after": "encoder.layer.*.attention.LayerNorm",
    }
    ignored = (r"embeddings\.position_ids$", *bert.copies(config, "lm_head"))
    return KeyMap(rows, "mpnet.", ignored=ignored, aliases=bert.aliases(config, "lm_head"))


ARCHITECTURE = bert.ARCHITECTURE.derive(
    "MPNet",
    MPNetConfig,
    build,
    keys=keys,
    heads={end: make for end, make in roberta.HEADS.items() if end != "ForCausalLM"},
)
