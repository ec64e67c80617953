"""Encoder-decoders of 2019 and 2020 with parts of their own: FSMT and ProphetNet."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import transformers
from transformers.models.prophetnet import modeling_prophetnet

from ..case import WORDS, Case


def fsmt(**changes: Any) -> Any:
    """The reference's pass with a cache sees the words after each, unless labels are given."""
    sizes = {"src_vocab_size": WORDS, "tgt_vocab_size": WORDS + 5, "d_model": 36, "max_position_embeddings": 64}
    sizes |= {"encoder_layers": 3, "encoder_attention_heads": 4, "encoder_ffn_dim": 50}
    sizes |= {"decoder_layers": 2, "decoder_attention_heads": 6, "decoder_ffn_dim": 44}
    return transformers.FSMTConfig(**{**sizes, "num_beams": 1, "use_cache": False, **changes})


def cached(model: Any, end: str) -> None:
    """Its `generate` without a cache sees other words too."""
    if end == "ForConditionalGeneration":
        model.generation_config.use_cache = True


def prophetnet(**changes: Any) -> Any:
    sizes = {"vocab_size": WORDS, "hidden_size": 36, "max_position_embeddings": 64, "num_buckets": 8}
    sizes |= {"num_encoder_layers": 3, "num_encoder_attention_heads": 4, "encoder_ffn_dim": 50, "ngram": 3}
    sizes |= {"num_decoder_layers": 2, "num_decoder_attention_heads": 6, "decoder_ffn_dim": 44}
    return transformers.ProphetNetConfig(**{**sizes, "relative_max_distance": 7, "eps": 0.1, **changes})


def scores_of_distances(self: Any, hidden: torch.Tensor, weights: torch.Tensor, places: Any, buckets: Any) -> Any:
    """Those of each text, prediction and head, (batch, ngram, heads, queries, keys).

    The reference's own function gives a query the rows of another head, prediction or text, where there are several
    queries; in its steps of `generate` there is one, and it is right.
    """
    rows = self.relative_pos_embeddings(hidden).unflatten(-1, (self.num_buckets, self.num_attn_heads))
    if buckets is None:  # a step over a cache
        after = torch.arange(weights.shape[-1]) - places[0, 0]
        number, reach = self.num_buckets, self.relative_max_distance
        buckets = modeling_prophetnet.compute_relative_buckets(number, reach, after, False)
        buckets = buckets.expand(*hidden.shape[:2], -1)
    rows = rows.permute(0, 2, 4, 1, 3)  # (batch, ngram, heads, queries, buckets)
    return rows.gather(-1, buckets.long()[:, None, None].expand(*rows.shape[:4], -1))


NGRAM_ATTENTION = modeling_prophetnet.ProphetNetNgramSelfAttention
OWN_SCORES = NGRAM_ATTENTION.get_predict_relative_pos_embeddings
NGRAM_ATTENTION.get_predict_relative_pos_embeddings = scores_of_distances
# The reference shows scores before the softmax, and streams of predictions behind or beside the tokens.
STREAMS = ("encoder_attentions", "cross_attentions", "last_hidden_state_ngram", "decoder_ngram_hidden_states",
           "decoder_ngram_attentions", "hidden_states_ngram", "ngram_attentions")  # fmt: skip
FSMT = {"absolute": True, "fixed": ("embed_positions",), "altered": cached}
CASES = (
    Case("fsmt", fsmt, ("Model", "ForConditionalGeneration"), **FSMT),
    Case("fsmt-tied", partial(fsmt, tgt_vocab_size=WORDS, tie_word_embeddings=True, scale_embedding=False),
         ("ForConditionalGeneration",), **FSMT),
    Case("prophetnet", prophetnet, ("Model", "ForConditionalGeneration"), absolute=True, left_out=STREAMS,
         chunks=False),
    Case("prophetnet-encoder", prophetnet, ("Encoder",), absolute=True, attentions=False),
    Case("prophetnet-decoder", partial(prophetnet, ngram=2, disable_ngram_loss=True, eps=0.0), ("ForCausalLM",),
         absolute=True, left_out=(*STREAMS, "logits_ngram"), chunks=False),
    Case("prophetnet-untied", partial(prophetnet, ngram=2, tie_word_embeddings=False),  # nobody reads its shared words
         ("ForConditionalGeneration",), absolute=True, left_out=STREAMS, chunks=False, loss=False),
)  # fmt: skip
