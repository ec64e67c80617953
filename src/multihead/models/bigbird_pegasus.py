"""BigBird-Pegasus (Zaheer et al., 2020, arXiv:2007.14062): Pegasus whose encoder reads long texts as BigBird does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..config import Size
from ..nn.attention.attention import Attention, CrossAttention
from ..nn.attention.sparse import BlockSparseAttention
from ..nn.layer import CrossLayer, Layer
from ..nn.stack import EncoderDecoder, Stack
from . import bart
from .bart import GENERATION_HEADS, LABEL_HEADS, BartConfig, Style


@dataclass(kw_only=True)
class BigBirdPegasusConfig(BartConfig):
    model_type = "bigbird_pegasus"

    vocab_size: Size = 96103
    encoder_layers: Size = 16
    decoder_layers: Size = 16
    max_position_embeddings: Size = 4096
    activation_function: str = "gelu_new"
    scale_embedding: bool = True
    num_labels: Size = 2
    attention_type: Literal["block_sparse", "original_full"] = "block_sparse"
    block_size: Size = 64
    num_random_blocks: int = 3
    use_bias: bool = False
    pad_token_id: int | None = 0
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 1
    forced_eos_token_id: int | list[int] | None = None


STYLE = Style(bart.learned, norm="before", source_norm=None, target_norm=None)


def encoder(config: BigBirdPegasusConfig, token: nn.Embedding) -> Stack:
    """Build the encoder, which drops no activations of its feed-forward."""
    heads, options = config.encoder_attention_heads, {"bias": config.use_bias, "dropout": config.attention_dropout}

    def layer(number: int) -> Layer:
        if config.attention_type == "original_full":
            own = Attention(config.d_model, heads, **options)  # type: ignore[arg-type]
        else:
            sparse = {"block": config.block_size, "random": config.num_random_blocks, "layer": number}
            own = BlockSparseAttention(config.d_model, heads, **sparse, **options)  # type: ignore[arg-type]
        ffn = bart.feed_forward(config.changed(activation_dropout=0.0), STYLE, config.encoder_ffn_dim)
        return Layer(STYLE.step(config, own), ffn)

    layers = [layer(number) for number in range(config.encoder_layers)]
    embed = STYLE.embeddings(config, token, None, STYLE.source_scale)
    return Stack(embed, layers, STYLE.last(config), drop=config.encoder_layerdrop)


def decoder(config: Any, token: nn.Embedding, style: Style = STYLE) -> Stack:
    """Build a decoder whose attention has biases where `use_bias` says so."""
    heads, options = config.decoder_attention_heads, {"bias": config.use_bias, "dropout": config.attention_dropout}

    def layer() -> CrossLayer:
        own = Attention(config.d_model, heads, causal=True, **options)
        cross = CrossAttention(config.d_model, heads, **options)
        ffn = bart.feed_forward(config, style, config.decoder_ffn_dim)
        return CrossLayer(style.step(config, own), style.step(config, cross), ffn)

    layers = [layer() for _ in range(config.decoder_layers)]
    embed = style.embeddings(config, token, None, style.target_scale)
    return Stack(embed, layers, style.last(config), drop=config.decoder_layerdrop)


def build(config: BigBirdPegasusConfig) -> EncoderDecoder:
    source = STYLE.words(config, config.vocab_size, STYLE.source_scale)
    target = source if config.shares_words else STYLE.words(config, config.vocab_size, STYLE.target_scale)
    return EncoderDecoder(encoder(config, source), decoder(config, target))


def build_decoder(config: BigBirdPegasusConfig) -> Stack:
    return decoder(config, STYLE.words(config, config.vocab_size, STYLE.target_scale))


def learned_table(table: KeyMap, own: dict[str, str]) -> KeyMap:
    """Return a key map whose position tables are read, and whose last norms have this family's name."""
    ignored = tuple(pattern for pattern in table.ignored if "embed_positions" not in pattern)
    return replace(table, rows={**table.rows, **own}, ignored=ignored)


def keys(config: BigBirdPegasusConfig) -> KeyMap:
    ours, theirs = "encoder.layers.*.attention.step", "encoder.layers.*.self_attn"
    names = {"q": "self.query", "k": "self.key", "v": "self.value", "out": "output"}
    own = {f"{ours}.{our}": f"{theirs}.{their}" for our, their in names.items()}
    lasts = {f"{side}.norm": f"{side}.layernorm_embedding" for side in ("encoder", "decoder")}
    return learned_table(bart.keys(config, STYLE), {**own, **lasts})


def decoder_keys(config: BigBirdPegasusConfig) -> KeyMap:
    return learned_table(bart.decoder_keys(config, STYLE), {"norm": "layernorm_embedding"})


HEADS: dict[str, Any] = {**GENERATION_HEADS, **LABEL_HEADS}
ARCHITECTURE = replace(
    bart.family("BigBirdPegasus", BigBirdPegasusConfig, STYLE, HEADS, source_as_target=tuple(HEADS)),
    build=build,
    keys=keys,
    backbone_variants={"ForCausalLM": (build_decoder, decoder_keys)},
)
