"""BERT for generation (Rothe et al., 2019, arXiv:1907.12461): BERT without token types, as encoder and as decoder."""

from __future__ import annotations

from dataclasses import dataclass

from ..checkpoints.key_map import KeyMap
from ..config import Config, Count, Size
from ..heads.heads import Head, LanguageModel
from ..nn.stack import Stack
from ..nn.weights import Linear
from . import bert


@dataclass(kw_only=True)
class BertGenerationConfig(Config):
    model_type = "bert-generation"

    vocab_size: Size = 50358
    hidden_size: Size = 1024
    num_hidden_layers: Count = 24
    num_attention_heads: Size = 16
    intermediate_size: Size = 4096
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: Size = 512
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    is_decoder: bool = False
    add_cross_attention: bool = False
    pad_token_id: int | None = 0
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 1


def build(config: BertGenerationConfig) -> Stack:
    embed = bert.embeddings(config, types=False)
    return Stack(embed, [bert.layer(config) for _ in range(config.num_hidden_layers)])


def keys(config: BertGenerationConfig) -> KeyMap:
    rows = {ours: theirs for ours, theirs in bert.EMBEDDING_ROWS.items() if ours != "embed.segment"}
    ignored = (r"embeddings\.position_ids$", *bert.copies(config, "lm_head"))
    return KeyMap({**rows, **bert.LAYER_ROWS}, "bert.", ignored=ignored, aliases=bert.aliases(config, "lm_head"))


def generate(config: BertGenerationConfig, backbone: Stack) -> Head:
    tied = config.tie_word_embeddings
    table = backbone.embed.token if tied else Linear(config.hidden_size, config.vocab_size, bias=False)
    rows = {"bias": "/lm_head.bias"} if tied else {"table": "/lm_head.decoder", "bias": "/lm_head.decoder.bias"}
    return Head(LanguageModel(table, bias=config.vocab_size), rows)


ARCHITECTURE = bert.ARCHITECTURE.derive(
    "BertGeneration", BertGenerationConfig, build, keys=keys, heads={"Model": None, "ForCausalLM": generate}
)
