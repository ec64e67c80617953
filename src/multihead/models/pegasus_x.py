"""Pegasus-X (Phang et al., 2022, arXiv:2208.04347): Pegasus whose encoder sees blocks and global tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..config import Count, Size
from ..errors import UnsupportedConfig
from ..nn.attention.global_blocks import BlockGlobalAttention, GlobalLayer, GlobalStack
from ..nn.embeddings import Tensor2TensorPositions
from ..nn.stack import EncoderDecoder
from ..nn.weights import LayerNorm
from . import bart, bigbird_pegasus
from .bart import BartConfig, Style, generate_plain
from .common.architecture import MakeHead


@dataclass(kw_only=True)
class PegasusXConfig(BartConfig):
    model_type = "pegasus_x"
    use_bias: ClassVar[bool] = False  # of attention

    vocab_size: Size = 96103
    encoder_layers: Count = 16
    decoder_layers: Count = 16
    max_position_embeddings: Size = 16384
    scale_embedding: bool = True
    num_labels: Size = 2
    num_global_tokens: Size = 32
    block_size: Size = 512
    stagger_local_blocks: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = 1
    decoder_start_token_id: int | None = 0
    forced_eos_token_id: int | list[int] | None = 1

    def check(self) -> None:
        if self.stagger_local_blocks and self.block_size % 2:
            raise UnsupportedConfig(f"block_size = {self.block_size} must be even for stagger_local_blocks.")
        if self.encoder_layerdrop:
            raise UnsupportedConfig("encoder_layerdrop is not computed: a left-out layer has no global tokens.")


def positions(config: PegasusXConfig) -> Tensor2TensorPositions:
    return Tensor2TensorPositions(config.d_model, offset=0)


STYLE = Style(positions, norm="before", source_norm=None, target_norm=None)


def encoder(config: PegasusXConfig, token: nn.Embedding) -> GlobalStack:
    """Build the encoder; the blocks of every second layer begin half a block later."""

    def layer(number: int) -> GlobalLayer:
        first = config.block_size // 2 if number % 2 and config.stagger_local_blocks else config.block_size
        attention = BlockGlobalAttention(
            config.d_model,
            config.encoder_attention_heads,
            block=config.block_size,
            first=first,
            bias=False,
            dropout=config.attention_dropout,
        )
        ffn = bart.feed_forward(config, STYLE, config.encoder_ffn_dim)
        return GlobalLayer(STYLE.step(config, attention), ffn, LayerNorm(config.d_model, config.norm_eps))

    layers = [layer(number) for number in range(config.encoder_layers)]
    embed = STYLE.embeddings(config, token, None, STYLE.source_scale)
    norm = LayerNorm(config.d_model, config.norm_eps)
    return GlobalStack(embed, layers, norm, globals=config.num_global_tokens, width=config.d_model)


def build(config: PegasusXConfig) -> EncoderDecoder:
    source = STYLE.words(config, config.vocab_size, STYLE.source_scale)
    target = source if config.shares_words else STYLE.words(config, config.vocab_size, STYLE.target_scale)
    return EncoderDecoder(encoder(config, source), bigbird_pegasus.decoder(config, target, STYLE))


def keys(config: PegasusXConfig) -> KeyMap:
    table = bart.keys(config, STYLE)
    ours = {"encoder.globals": "encoder.embed_global"}
    ours["encoder.layers.*.global_norm"] = "encoder.layers.*.global_self_attn_layer_norm"
    return replace(table, rows={**table.rows, **ours})


HEADS: dict[str, MakeHead | None] = {"Model": None, "ForConditionalGeneration": generate_plain}
ARCHITECTURE = replace(
    bart.family("PegasusX", PegasusXConfig, STYLE, HEADS), build=build, keys=keys, head_types={}, backbone_variants={}
)
