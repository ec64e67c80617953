"""What each kind of model class makes of its head's numbers: shapes for users, a loss from labels, the output class."""

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

Labels = Mapping[str, Tensor]
Finish = Callable[[Any, Layout, Labels, Config], dict[str, Any]]


def pooled(raw: Tensor, layout: Layout, labels: Labels, config: Config) -> dict[str, Any]:
    return {"pooler_output": raw}


def words(raw: Tensor, layout: Layout, labels: Labels, config: Config) -> dict[str, Any]:
    """Word scores, with the loss of each labeled word itself."""
    loss = losses.words(raw, packed_labels(layout, labels["labels"])) if "labels" in labels else None
    return {"loss": loss, "logits": layout.unpack(raw)}


def next_words(raw: Tensor, layout: Layout, labels: Labels, config: Config) -> dict[str, Any]:
    """Word scores, with the loss of each word's successor in its own text."""
    loss = None
    if "labels" in labels:
        loss = losses.next_words(raw, packed_labels(layout, labels["labels"]), layout.runs)
    return {"loss": loss, "logits": layout.unpack(raw)}


def text_labels(raw: Tensor, layout: Layout, labels: Labels, config: Config) -> dict[str, Any]:
    loss = losses.texts(raw, labels["labels"], config) if "labels" in labels else None
    return {"loss": loss, "logits": raw}


def detected(raw: Tensor, layout: Layout, labels: Labels, config: Config) -> dict[str, Any]:
    """A score a token, with the loss of whether it was replaced."""
    scores = raw.squeeze(-1)
    loss = losses.replaced(scores, packed_labels(layout, labels["labels"])) if "labels" in labels else None
    return {"loss": loss, "logits": layout.unpack(scores)}


def following(raw: Tensor, layout: Layout, labels: Labels, config: Config) -> dict[str, Any]:
    loss = losses.words(raw, labels["labels"].flatten()) if "labels" in labels else None
    return {"loss": loss, "logits": raw}


def choices(raw: Tensor, layout: Layout, labels: Labels, config: Config) -> dict[str, Any]:
    """One score for each of a question's choices: (batch, choices)."""
    logits = raw.view(-1, int(labels["choices"]))
    loss = losses.words(logits, labels["labels"].flatten()) if "labels" in labels else None
    return {"loss": loss, "logits": logits}


def spans(raw: Tensor, layout: Layout, labels: Labels, config: Config) -> dict[str, Any]:
    lowest = torch.finfo(raw.dtype).min
    hidden = layout.unpack(raw.new_ones(raw.shape[0])) == 0
    start, end = (layout.unpack(raw[:, side]).masked_fill(hidden, lowest) for side in (0, 1))
    loss = None
    if "start_positions" in labels and "end_positions" in labels:
        loss = losses.spans(start, end, labels["start_positions"], labels["end_positions"])
    return {"loss": loss, "start_logits": start, "end_logits": end}


def pretraining(text: str, label: str) -> Finish:
    """Word scores, and the text's under the name `text`, with its labels under `label`."""

    def finish(raw: tuple[Tensor, Tensor], layout: Layout, labels: Labels, config: Config) -> dict[str, Any]:
        scores, kind = raw
        loss = None
        if "labels" in labels and label in labels:
            known = packed_labels(layout, labels["labels"])
            loss = losses.words(scores, known) + losses.words(kind, labels[label].flatten())
        return {"loss": loss, "prediction_logits": layout.unpack(scores), text: kind}

    return finish


def packed_labels(layout: Layout, labels: Tensor) -> Tensor:
    """Labels (batch, length) of the real tokens. Raises InvalidInput for another shape."""
    if tuple(labels.shape) != layout.shape:
        raise InvalidInput(f"labels have shape {list(labels.shape)}; the inputs have {list(layout.shape)}.")
    return layout.pack(labels)


@dataclass(frozen=True)
class Kind:
    """A kind of model class.

    Args:
        auto: the Auto class that loads it. finish: from the head's numbers to the output's fields.
        labels: arguments it takes as labels. choices: inputs are (batch, choices, length).
    """

    auto: str
    output: type[Output]
    finish: Finish
    labels: tuple[str, ...] = ("labels",)
    choices: bool = False


KINDS: Mapping[str, Kind] = {  # end of a class name -> its kind
    "Model": Kind("AutoModel", HiddenOutput, pooled, labels=()),
    "EncoderModel": Kind("AutoModelForTextEncoding", HiddenOutput, pooled, labels=()),
    "ForPreTraining": Kind(
        "AutoModelForPreTraining",
        PreTrainingOutput,
        pretraining("seq_relationship_logits", "next_sentence_label"),
        labels=("labels", "next_sentence_label"),
    ),
    "ForMaskedLM": Kind("AutoModelForMaskedLM", ScoresOutput, words),
    "ForCausalLM": Kind("AutoModelForCausalLM", ScoresOutput, next_words),
    "LMHeadModel": Kind("AutoModelForCausalLM", ScoresOutput, next_words),
    "ForConditionalGeneration": Kind("AutoModelForSeq2SeqLM", Seq2SeqScoresOutput, words),
    "MTModel": Kind("AutoModelForSeq2SeqLM", Seq2SeqScoresOutput, words),
    "ForSequenceClassification": Kind("AutoModelForSequenceClassification", ScoresOutput, text_labels),
    "ForTokenClassification": Kind("AutoModelForTokenClassification", ScoresOutput, words),
    "ForQuestionAnswering": Kind(
        "AutoModelForQuestionAnswering", SpanOutput, spans, labels=("start_positions", "end_positions")
    ),
    "ForQuestionAnsweringSimple": Kind(
        "AutoModelForQuestionAnswering", SpanOutput, spans, labels=("start_positions", "end_positions")
    ),
    "WithLMHeadModel": Kind("AutoModelForMaskedLM", ScoresOutput, words),
    "ForNextSentencePrediction": Kind("AutoModelForNextSentencePrediction", ScoresOutput, following),
    "ForMultipleChoice": Kind("AutoModelForMultipleChoice", ScoresOutput, choices, choices=True),
}
