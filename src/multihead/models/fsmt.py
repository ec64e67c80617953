"""FSMT (Ng et al., 2019, arXiv:1907.06616): fairseq's translation models of WMT 2019, with a vocabulary a side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..checkpoints.key_map import KeyMap
from ..config import Config, Count, Size
from ..errors import UnsupportedConfig
from ..heads.decoder_inputs import after_own_last
from ..heads.head_types import HeadType, Labels
from ..heads.heads import Head, LanguageModel
from ..heads.outputs import HiddenOutput
from ..nn.embeddings import Tensor2TensorPositions
from ..nn.ragged import Layout
from ..nn.stack import EncoderDecoder
from ..nn.weights import Linear
from . import bart
from .bart import Style
from .common.architecture import Architecture

SCORES, WORDS = "decoder.output_projection.weight", "decoder.embed_tokens.weight"


@dataclass(kw_only=True)
class FSMTConfig(Config):
    model_type = "fsmt"
    inert = ("langs", "decoder")
    norm_eps: ClassVar[float] = 1e-5
    aliases: ClassVar = {
        "vocab_size": "tgt_vocab_size",
        "hidden_size": "d_model",
        "num_attention_heads": "encoder_attention_heads",
        "num_hidden_layers": "encoder_layers",
    }

    src_vocab_size: Size = 42024
    tgt_vocab_size: Size = 42024
    activation_function: str = "relu"
    d_model: Size = 1024
    max_length: int = 200
    max_position_embeddings: Size = 1024
    encoder_ffn_dim: Size = 4096
    encoder_layers: Count = 12
    encoder_attention_heads: Size = 16
    encoder_layerdrop: float = 0.0
    decoder_ffn_dim: Size = 4096
    decoder_layers: Count = 12
    decoder_attention_heads: Size = 16
    decoder_layerdrop: float = 0.0
    attention_dropout: float = 0.0
    dropout: float = 0.1
    activation_dropout: float = 0.0
    init_std: float = 0.02
    scale_embedding: bool = True
    is_encoder_decoder: bool = True
    tie_word_embeddings: bool = False
    num_beams: int = 5
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2
    decoder_start_token_id: int | None = 2
    forced_eos_token_id: int | list[int] | None = 2

    def check(self) -> None:
        if self.tie_word_embeddings and self.src_vocab_size != self.tgt_vocab_size:
            raise UnsupportedConfig("tie_word_embeddings needs a src_vocab_size and tgt_vocab_size that are equal.")

    @property
    def decoder_vocab_size(self) -> int:
        """Number of tokens of the target language."""
        return self.tgt_vocab_size


def positions(config: FSMTConfig) -> Tensor2TensorPositions:
    return Tensor2TensorPositions(config.d_model, padding=config.pad_token_id or 0)


STYLE = Style(positions, source_norm=None, target_norm=None, source_scale="all", target_scale="all")


def build(config: FSMTConfig) -> EncoderDecoder:
    source = STYLE.words(config, config.src_vocab_size, STYLE.source_scale)
    target = source if config.tie_word_embeddings else STYLE.words(config, config.tgt_vocab_size, STYLE.target_scale)
    return EncoderDecoder(bart.encoder(config, STYLE, source), bart.decoder(config, STYLE, target))


def keys(config: FSMTConfig) -> KeyMap:
    sides = ("encoder", "decoder")
    rows = {f"{side}.embed.token": f"{side}.embed_tokens" for side in sides}
    if config.tie_word_embeddings:
        rows = {"encoder.embed.token": rows["decoder.embed.token"]}
    for side in sides:
        rows |= bart.side_rows(f"{side}.", f"{side}.", STYLE, cross=side == "decoder")  # type: ignore[arg-type]
    copies = (r"(encoder\.embed_tokens|output_projection)\.weight$",) if config.tie_word_embeddings else ()
    table = (r"embed_positions\.weight$", partial(sinusoids, padding=config.pad_token_id or 0))
    return KeyMap(rows, "model.", ignored=(*copies, table[0]), computed=(table,))


def sinusoids(count: int, width: int, padding: int) -> Tensor:
    """Return the position table of a file, (count, width)."""
    table = Tensor2TensorPositions(width, offset=0)(torch.arange(count, device="cpu"))
    table[padding] = 0
    return table


def tables(config: FSMTConfig, stored: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Show the target's words under both their names: older files keep one tensor, which was both tables."""
    if config.tie_word_embeddings:
        return stored
    shown = dict(stored)
    for prefix in ("", "model."):
        for name, other in ((SCORES, WORDS), (WORDS, SCORES)):
            if prefix + other in stored and prefix + name not in stored:
                shown[prefix + name] = stored[prefix + other]
    return shown


def score(config: FSMTConfig, backbone: EncoderDecoder) -> Head:
    if config.tie_word_embeddings:
        return Head(LanguageModel(backbone.embed.token))
    table = Linear(config.d_model, config.tgt_vocab_size, bias=False)
    return Head(LanguageModel(table), {"table": SCORES.removesuffix(".weight")})


def scores_as_states(raw: Tensor, layout: Layout, labels: Labels, config: Config) -> dict[str, Any]:
    """Return scores as the last states, which they are in the reference's bare model."""
    return {"last_hidden_state": layout.unpack(raw)}


ENDS = ("Model", "ForConditionalGeneration")
ARCHITECTURE = Architecture(
    "FSMT",
    FSMTConfig,
    build,
    keys,
    heads=dict.fromkeys(ENDS, score),
    head_types={"Model": HeadType("AutoModel", HiddenOutput, scores_as_states, labels=())},
    shift_right=after_own_last,
    source_as_target=ENDS,
    view_tensors=tables,
)
