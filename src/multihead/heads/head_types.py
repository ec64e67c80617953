"""Head types: which Auto class loads a head, how its result becomes an output, and how its loss is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..config import Config
from ..errors import InvalidInput
from ..nn.ragged import Layout
from . import losses
from .outputs import HiddenOutput, Output, PreTrainingOutput, ScoresOutput, Seq2SeqScoresOutput, SpanOutput

CAUSAL_LM, SEQ2SEQ_LM = "AutoModelForCausalLM", "AutoModelForSeq2SeqLM"
COUNT = "num_items_in_batch"  # argument with the number of labels that divides a sum of losses
GENERATIVE = (CAUSAL_LM, SEQ2SEQ_LM)  # Auto classes whose models can generate
Labels = Mapping[str, Tensor]
Postprocess = Callable[[Any, Layout, Labels, Config], dict[str, Any]]


def pooled(raw: Tensor, layout: Layout, labels: Labels, config: Config) -> dict[str, Any]:
    """Return the pooler's result (batch, width)."""
    return {"pooler_output": raw}


def words(raw: Tensor, layout: Layout, labels: Labels, config: Config) -> dict[str, Any]:
    """Return logits (batch, length, labels), with the loss of each labeled token itself."""
    loss = None
    if "labels" in labels:
        loss = losses.words(raw, pack_labels(layout, labels["labels"]), labels.get(COUNT))
    return {"loss": loss, "logits": layout.unpack(raw)}


def next_words(raw: Tensor, layout: Layout, labels: Labels, config: Config) -> dict[str, Any]:
    """Return logits (batch, length, vocabulary), with the loss of each token's successor in its own sequence."""
    loss = None
    if "labels" in labels:
        loss = losses.next_words(raw, pack_labels(layout, labels["labels"]), layout.runs, labels.get(COUNT))
    return {"loss": loss, "logits": layout.unpack(raw)}


def text_labels(raw: Tensor, layout: Layout, labels: Labels, config: Config) -> dict[str, Any]:
    """Return logits (batch, labels), with the loss of `config.problem_type`."""
    loss = losses.texts(raw, labels["labels"], config) if "labels" in labels else None
    return {"loss": loss, "logits": raw}


def detected(raw: Tensor, layout: Layout, labels: Labels, config: Config) -> dict[str, Any]:
    """Return a logit for each token, (batch, length), with the loss of detecting replaced tokens."""
    scores = raw.squeeze(-1)
    loss = losses.replaced(scores, pack_labels(layout, labels["labels"])) if "labels" in labels else None
    return {"loss": loss, "logits": layout.unpack(scores)}


def following(raw: Tensor, layout: Layout, labels: Labels, config: Config) -> dict[str, Any]:
    """Return next-sentence logits (batch, 2) with their cross-entropy."""
    loss = losses.words(raw, labels["labels"].flatten()) if "labels" in labels else None
    return {"loss": loss, "logits": raw}


def choices(raw: Tensor, layout: Layout, labels: Labels, config: Config) -> dict[str, Any]:
    """Return a logit for each choice of a question, (batch, choices), with their cross-entropy."""
    logits = raw.view(-1, int(labels["choices"]))
    loss = losses.words(logits, labels["labels"].flatten()) if "labels" in labels else None
    return {"loss": loss, "logits": logits}


def spans(raw: Tensor, layout: Layout, labels: Labels, config: Config) -> dict[str, Any]:
    """Return start and end logits (batch, length), lowest at padding, with the loss of answer spans."""
    lowest = torch.finfo(raw.dtype).min
    hidden = layout.unpack(raw.new_ones(raw.shape[0])) == 0
    start, end = (layout.unpack(raw[:, side]).masked_fill(hidden, lowest) for side in (0, 1))
    loss = None
    if "start_positions" in labels and "end_positions" in labels:
        loss = losses.spans(start, end, labels["start_positions"], labels["end_positions"])
    return {"loss": loss, "start_logits": start, "end_logits": end}


def pretraining(text: str, label: str) -> Postprocess:
    """Return a function for token logits and sequence logits.

    Args:
        text: name of the output field of the sequence logits. label: name of the argument with their labels.
    """

    def postprocess(raw: tuple[Tensor, Tensor], layout: Layout, labels: Labels, config: Config) -> dict[str, Any]:
        scores, kind = raw
        loss = None
        if "labels" in labels and label in labels:
            known = pack_labels(layout, labels["labels"])
            loss = losses.words(scores, known) + losses.words(kind, labels[label].flatten())
        return {"loss": loss, "prediction_logits": layout.unpack(scores), text: kind}

    return postprocess


def pack_labels(layout: Layout, labels: Tensor) -> Tensor:
    """Pack labels (batch, length) to those of real tokens, (tokens,). Raises InvalidInput for another shape."""
    if tuple(labels.shape) != layout.shape:
        raise InvalidInput(f"labels have shape {list(labels.shape)}; the inputs have {list(layout.shape)}.")
    return layout.pack(labels)


@dataclass(frozen=True)
class HeadType:
    """Description of a kind of head: the Auto class that loads it, its output class and its loss.

    Args:
        auto: name of the Auto class; empty for none.
        postprocess: makes the output's fields of the head's result and of labels.
        labels: names of the arguments that hold labels.
        choices: whether inputs are (batch, choices, length), as in multiple choice.
        writes: whether the head scores next tokens too, whatever its Auto class.
    """

    auto: str
    output: type[Output]
    postprocess: Postprocess
    labels: tuple[str, ...] = ("labels",)
    choices: bool = False
    writes: bool = False

    @property
    def counts_labels(self) -> bool:
        """True if the loss is a mean over tokens, so that the number of those of several batches may divide its sum."""
        return self.postprocess in (words, next_words)

    @property
    def generates(self) -> bool:
        """True if the head scores next tokens, which `generate` needs."""
        return self.writes or self.auto in GENERATIVE


HEAD_TYPES: Mapping[str, HeadType] = {  # by head suffix, the end of a class name
    "Model": HeadType("AutoModel", HiddenOutput, pooled, labels=()),
    "EncoderModel": HeadType("AutoModelForTextEncoding", HiddenOutput, pooled, labels=()),
    "ForPreTraining": HeadType(
        "AutoModelForPreTraining",
        PreTrainingOutput,
        pretraining("seq_relationship_logits", "next_sentence_label"),
        labels=("labels", "next_sentence_label"),
    ),
    "ForMaskedLM": HeadType("AutoModelForMaskedLM", ScoresOutput, words),
    "ForCausalLM": HeadType(CAUSAL_LM, ScoresOutput, next_words),
    "LMHeadModel": HeadType(CAUSAL_LM, ScoresOutput, next_words),
    "ForConditionalGeneration": HeadType(SEQ2SEQ_LM, Seq2SeqScoresOutput, words),
    "MTModel": HeadType(SEQ2SEQ_LM, Seq2SeqScoresOutput, words),
    "ForSequenceClassification": HeadType("AutoModelForSequenceClassification", ScoresOutput, text_labels),
    "ForTokenClassification": HeadType("AutoModelForTokenClassification", ScoresOutput, words),
    "ForQuestionAnswering": HeadType(
        "AutoModelForQuestionAnswering", SpanOutput, spans, labels=("start_positions", "end_positions")
    ),
    "ForQuestionAnsweringSimple": HeadType(
        "AutoModelForQuestionAnswering", SpanOutput, spans, labels=("start_positions", "end_positions")
    ),
    "WithLMHeadModel": HeadType("AutoModelForMaskedLM", ScoresOutput, words),
    "ForNextSentencePrediction": HeadType("AutoModelForNextSentencePrediction", ScoresOutput, following),
    "ForMultipleChoice": HeadType("AutoModelForMultipleChoice", ScoresOutput, choices, choices=True),
}
