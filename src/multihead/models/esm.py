"""ESM-1b and ESM-2, language models of proteins (Lin et al., 2022, doi:10.1101/2022.07.20.500902)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..checkpoints.key_map import KeyMap
from ..config import Config, Count, Size
from ..errors import UnsupportedConfig
from ..heads.heads import Classifier, Dense, Head, first
from ..nn.attention.attention import Attention
from ..nn.contacts import ContactHead, ContactStack
from ..nn.embeddings import Embeddings, LearnedPositions
from ..nn.feedforward import FeedForward
from ..nn.forward_context import ForwardContext
from ..nn.layer import Layer, Residual
from ..nn.positions import Positions, rotary
from ..nn.ragged import sequence_ids
from ..nn.weights import Embedding, LayerNorm
from . import bert, roberta
from .common.architecture import Architecture

MASKED_IN_TRAINING = 0.15 * 0.8  # tokens that were mask tokens


@dataclass(kw_only=True)
class EsmConfig(Config):
    model_type = "esm"
    inert = ("classifier_dropout", "hidden_act")

    vocab_size: Size = 33
    mask_token_id: int | None = None
    hidden_size: Size = 768
    num_hidden_layers: Count = 12
    num_attention_heads: Size = 12
    intermediate_size: Size = 3072
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: Size = 1026
    rope_theta: float = 10000.0
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    position_embedding_type: Literal["absolute", "rotary"] = "absolute"
    emb_layer_norm_before: bool | None = None
    token_dropout: bool = False
    is_folding_model: Literal[False] = False
    is_decoder: bool = False
    add_cross_attention: Literal[False] = False
    pad_token_id: int | None = None
    eos_token_id: int | list[int] | None = 2

    @property
    def classifier_dropout(self) -> None:
        """Dropout of classifiers, that of hidden states."""

    def check(self) -> None:
        if self.token_dropout and self.mask_token_id is None:
            raise UnsupportedConfig("token_dropout scales by how many tokens are masked, so it needs mask_token_id.")


class EsmEmbeddings(Embeddings):
    """Embeddings with mask tokens zeroed; other vectors are scaled for the share of mask tokens in training.

    Vectors that a caller gives are the layers' input as they are, as in the reference: without positions and norm.

    Args:
        mask: id of the mask token; None where it is a token like others.
    """

    def __init__(self, token: nn.Embedding, *, mask: int | None, **options: Any) -> None:
        super().__init__(token, **options)
        self.mask = mask

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        if context.ids is None:
            return words
        if self.mask is None:
            return super().forward(words, context)
        masked = context.ids == self.mask
        lengths = torch.tensor(context.runs.lengths, device=words.device)
        texts = sequence_ids(context.runs, words.device)
        share = torch.zeros(len(context.runs), device=words.device).index_add(0, texts, masked.float()) / lengths.clamp(
            1
        )
        scaled = words.masked_fill(masked[:, None], 0.0) * (1 - MASKED_IN_TRAINING) / (1 - share)[texts, None]
        return super().forward(scaled.to(words.dtype), context)


def build(config: EsmConfig) -> ContactStack:
    width, heads, eps = config.hidden_size, config.num_attention_heads, config.layer_norm_eps
    turning = config.position_embedding_type == "rotary"
    rope = {"rope_theta": config.rope_theta}
    positions = rotary(width // heads, rope, config.max_position_embeddings) if turning else Positions()

    def step(module: nn.Module) -> Residual:
        return Residual(module, before=LayerNorm(width, eps), dropout=config.hidden_dropout_prob)

    def layer() -> Layer:
        dropout = config.attention_probs_dropout_prob
        attention = Attention(width, heads, positions=positions, causal=config.is_decoder, dropout=dropout)
        return Layer(step(attention), step(FeedForward(width, config.intermediate_size, "gelu")))

    pad = config.pad_token_id or 0
    learned = LearnedPositions(config.max_position_embeddings, width, offset=pad + 1, padding=pad)
    options: dict[str, Any] = {
        "position": None if turning else learned,
        "norm": LayerNorm(width, eps) if config.emb_layer_norm_before else None,
    }
    token = Embedding(config.vocab_size, width)
    embed = EsmEmbeddings(token, mask=config.mask_token_id if config.token_dropout else None, **options)
    stack = ContactStack(embed, [layer() for _ in range(config.num_hidden_layers)], LayerNorm(width, eps))
    stack.contacts = ContactHead(config.num_hidden_layers * heads)
    return stack


def keys(config: EsmConfig) -> KeyMap:
    rows = {
        **{ours: bert.EMBEDDING_ROWS[ours] for ours in ("embed.token", "embed.position.table")},
        **bert.LAYER_ROWS,
        "embed.norm": "embeddings.layer_norm",
        "layers.*.attention.before": "encoder.layer.*.attention.LayerNorm",
        "layers.*.ffn.before": "encoder.layer.*.LayerNorm",
        "norm": "encoder.emb_layer_norm_after",
        "contacts.regression": "contact_head.regression",
    }
    copies = (r"^lm_head\.decoder\.weight$",) if config.tie_word_embeddings else ()
    unused = (r"embeddings\.position_(ids|embeddings\.weight)$", r"rotary_embeddings\.inv_freq$")
    return KeyMap(rows, "esm.", ignored=(*unused, *copies), renamed=bert.OLD_NORMS)


def word_head(config: EsmConfig, backbone: ContactStack) -> Head:
    head = roberta.word_head(config, backbone)
    return Head(head.module, {**head.rows, "bias": "/lm_head.bias"})


def classify_text(config: EsmConfig, backbone: ContactStack) -> Head:
    dropout = config.hidden_dropout_prob
    dense = Dense(config.hidden_size, "tanh", dropout=dropout)
    head = Classifier(config.hidden_size, config.num_labels, pool=first, dense=dense, dropout=dropout)
    return Head(head, {"dense.linear": "/classifier.dense", "out": "/classifier.out_proj"})


def predict_contacts(model: Any, tokens: Tensor, attention_mask: Tensor) -> Tensor:
    """Return contact probabilities of residues, (batch, length - 2, length - 2), without the first and last column.

    Args:
        tokens: (batch, length), with start and end tokens. attention_mask: (batch, length), 0 at padding.
    """
    shown = model(tokens, attention_mask=attention_mask, output_attentions=True).attentions
    maps = torch.cat(list(shown), 1)
    residues = (tokens != model.config.eos_token_id).to(maps.device, maps.dtype)
    maps = maps * residues[:, None, None, :] * residues[:, None, :, None]
    return model.backbone.contacts(maps[..., 1:-1, 1:-1])


ARCHITECTURE = Architecture(
    "Esm",
    EsmConfig,
    build,
    keys,
    heads={
        "Model": bert.pooler,
        "ForMaskedLM": word_head,
        "ForSequenceClassification": classify_text,
        "ForTokenClassification": bert.token_classifier,
    },
    methods={"predict_contacts": predict_contacts},
)
