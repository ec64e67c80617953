"""YOSO (Zeng et al., 2021, arXiv:2111.09714): attention by the chance of equal hashes, in its expectation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from ..checkpoints.key_map import KeyMap
from ..config import Size
from ..errors import UnsupportedConfig
from ..nn.attention.hashed import CollisionAttention
from ..nn.embeddings import Embeddings, LearnedPositions
from ..nn.stack import Stack
from ..nn.weights import Embedding, LayerNorm
from . import bert, nystromformer


@dataclass(kw_only=True)
class YosoConfig(bert.BertConfig):
    model_type = "yoso"
    # Entries of hashes that are drawn, which the expectation takes the place of.
    inert: ClassVar[tuple[str, ...]] = (*bert.BertConfig.inert, "num_hash", "use_fast_hash", "lsh_backward")

    vocab_size: Size = 50265
    max_position_embeddings: Size = 4096
    type_vocab_size: Size = 1
    use_expectation: Literal[True] = True
    hash_code_len: Size = 9
    conv_window: Size | None = None
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2

    def check(self) -> None:
        if self.conv_window is not None and self.conv_window % 2 == 0:
            raise UnsupportedConfig(f"conv_window must be odd, not {self.conv_window}.")


def build(config: YosoConfig) -> Stack:
    width, heads = config.hidden_size, config.num_attention_heads

    def attention() -> CollisionAttention:
        return CollisionAttention(width, heads, bits=config.hash_code_len, kernel=config.conv_window)

    embed = Embeddings(
        Embedding(config.vocab_size, width),
        position=LearnedPositions(config.max_position_embeddings + 2, width, offset=2, by_row=True),
        segment=Embedding(config.type_vocab_size, width),
        norm=LayerNorm(width, config.layer_norm_eps),
        dropout=config.hidden_dropout_prob,
    )
    return Stack(embed, [bert.layer(config, mixer=attention()) for _ in range(config.num_hidden_layers)])


def keys(config: YosoConfig) -> KeyMap:
    return replace(nystromformer.keys(config), prefix="yoso.")  # type: ignore[arg-type]


ARCHITECTURE = nystromformer.ARCHITECTURE.derive("Yoso", YosoConfig, build, keys=keys)
