"""BigBird (Zaheer et al., 2020, arXiv:2007.14062): BERT for long texts, in blocks that see a few others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..checkpoints.key_map import KeyMap
from ..config import Size
from ..heads.heads import Both, Classifier, Dense, Head, Pooler, attach_unused, first
from ..nn.attention.attention import Attention, CrossAttention
from ..nn.attention.sparse import BlockSparseAttention
from ..nn.feedforward import FeedForward
from ..nn.forward_context import ForwardContext
from ..nn.layer import CrossLayer, Layer, Residual
from ..nn.ragged import positions_in_sequences
from ..nn.stack import Stack
from ..nn.weights import Dropout, LayerNorm, Linear
from . import bert
from .common.architecture import MakeHead

NEVER = 1e6  # taken off the scores of a question's own tokens


@dataclass(kw_only=True)
class BigBirdConfig(bert.BertConfig):
    model_type = "big_bird"

    vocab_size: Size = 50358
    hidden_act: str = "gelu_new"
    max_position_embeddings: Size = 4096
    attention_type: Literal["block_sparse", "original_full"] = "block_sparse"
    use_bias: bool = True
    rescale_embeddings: bool = False
    block_size: Size = 64
    num_random_blocks: int = 3
    sep_token_id: int | None = 66
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2


def build(config: BigBirdConfig) -> Stack:
    width, heads, dropout = config.hidden_size, config.num_attention_heads, config.attention_probs_dropout_prob

    def step(module: nn.Module) -> Residual:
        return Residual(module, after=LayerNorm(width, config.layer_norm_eps), dropout=config.hidden_dropout_prob)

    def layer(number: int) -> Layer:
        options: dict[str, Any] = {"bias": config.use_bias, "out_bias": True, "dropout": dropout}
        ffn = step(FeedForward(width, config.intermediate_size, config.hidden_act))
        if config.attention_type == "original_full" or config.add_cross_attention:
            own: Attention = Attention(width, heads, causal=config.is_decoder, **options)
        else:
            sparse = {"block": config.block_size, "random": config.num_random_blocks, "layer": number}
            own = BlockSparseAttention(width, heads, causal=config.is_decoder, **sparse, **options)
        if not config.add_cross_attention:
            return Layer(step(own), ffn)
        return CrossLayer(step(own), step(CrossAttention(width, heads, **options)), ffn)

    embed = bert.embeddings(config, scale=width**0.5 if config.rescale_embeddings else 1.0, rescales=True)
    return Stack(embed, [layer(number) for number in range(config.num_hidden_layers)])


def keys(config: BigBirdConfig) -> KeyMap:
    table = bert.keys(config)
    return replace(table, ignored=(*table.ignored, r"embeddings\.token_type_ids$"))


def pooler(config: BigBirdConfig, backbone: Stack) -> Head:
    return Head(Pooler(Dense(config.hidden_size, "tanh")), {"dense.linear": "pooler"}, optional=True)


def pooled(config: BigBirdConfig, labels: int, key: str) -> Head:
    head = bert.classifier(config, labels, key)
    return replace(head, rows={**head.rows, "dense.linear": "pooler"})


def pretraining(config: BigBirdConfig, backbone: Stack) -> Head:
    words, text = bert.word_head(config, backbone), pooled(config, 2, "/cls.seq_relationship")
    rows = {f"words.{k}": v for k, v in words.rows.items()} | {f"text.{k}": v for k, v in text.rows.items()}
    return Head(Both(words.module, text.module), rows)


def classify_text(config: BigBirdConfig, backbone: Stack) -> Head:
    dropout = bert.dropout_of(config)
    dense = Dense(config.hidden_size, config.hidden_act, dropout=dropout)
    head = Classifier(config.hidden_size, config.num_labels, pool=first, dense=dense, dropout=dropout)
    return Head(head, {"dense.linear": "/classifier.dense", "out": "/classifier.out_proj"})


def in_question(context: ForwardContext, separator: int | None) -> Tensor | None:
    """Return a mask (tokens,) of question tokens, up to the first separator; None without ids."""
    lengths = context.extra_inputs.get("question_lengths")
    if lengths is None:
        if context.ids is None:
            return None
        texts = [own.tolist() for own in context.ids.split(context.runs.lengths)]
        lengths = [own.index(separator) + 1 if separator in own else 1 for own in texts]
    device = context.positions.device
    ends = torch.tensor(lengths, device=device).repeat_interleave(torch.tensor(context.runs.lengths, device=device))
    return positions_in_sequences(context.runs, device) < ends


class Answers(nn.Module):
    """Logits (tokens, 2) of an answer's start and end after one more feed-forward, lowest at the question's tokens."""

    def __init__(self, config: BigBirdConfig) -> None:
        super().__init__()
        width = config.hidden_size
        ffn = FeedForward(width, config.intermediate_size, config.hidden_act)
        norm, dropout = LayerNorm(width, config.layer_norm_eps), config.hidden_dropout_prob
        self.step = Residual(ffn, before=Dropout(dropout), after=norm, dropout=dropout)
        self.out, self.separator = Linear(width, 2), config.sep_token_id

    def forward(self, hidden: Tensor, context: ForwardContext) -> Tensor:
        scores, asked = self.out(self.step(hidden)), in_question(context, self.separator)
        if asked is None:
            return scores
        never = asked & (positions_in_sequences(context.runs, hidden.device) > 0)
        return scores - never[:, None] * NEVER


def answer(config: BigBirdConfig, backbone: Stack) -> Head:
    """Build the head; tokens after the question get type 1, unless types are given."""

    def adjust(context: ForwardContext) -> ForwardContext:
        asked = in_question(context, config.sep_token_id) if context.segments is None else None
        return context if asked is None else replace(context, segments=(~asked).long())

    backbone.adjust = adjust
    names = {"step.step.up": "intermediate.dense", "step.step.down": "output.dense", "step.after": "output.LayerNorm"}
    rows = {ours: f"/qa_classifier.{theirs}" for ours, theirs in {**names, "out": "qa_outputs"}.items()}
    return Head(Answers(config), rows)


def choices(config: BigBirdConfig, backbone: Stack, labels: int = 1) -> Head:
    return pooled(config, labels, "/classifier")


def beside_pooler(make: MakeHead) -> MakeHead:
    """Build a head beside the pooler, which checkpoints store and no forward pass uses."""

    def build_head(config: BigBirdConfig, backbone: Stack) -> Head:
        return attach_unused(make(config, backbone), Dense(config.hidden_size, "tanh"), {"linear": "pooler"})

    return build_head


ARCHITECTURE = bert.ARCHITECTURE.derive(
    "BigBird",
    BigBirdConfig,
    build,
    keys=keys,
    heads={
        "Model": pooler,
        "ForPreTraining": pretraining,
        "ForMaskedLM": beside_pooler(bert.word_head),
        "ForCausalLM": beside_pooler(bert.word_head),
        "ForSequenceClassification": beside_pooler(classify_text),
        "ForMultipleChoice": partial(choices, labels=1),
        "ForTokenClassification": beside_pooler(bert.token_classifier),
        "ForQuestionAnswering": answer,
    },
    inputs={"question_lengths": lambda given, layout: given.flatten().tolist()},
)
