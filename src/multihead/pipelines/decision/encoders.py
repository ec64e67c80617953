"""decision by encoders: models of natural language inference, rerankers and sentence encoders.

The sentence about an option is the question's instructions and the option's words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..base import PipelineOptions, too_long
from ..calibration import Calibration
from ..reference_texts import VARIED_TEXTS
from ..similarity import SCALE, EmbeddingPipeline
from ..streaming_batcher import ModelInput, Preprocessed
from ..zero_shot import contradiction_label, entailment_label
from .pipeline import DecisionOptions, DecisionPipeline
from .questions import PREDICATE, Question
from .state import DecisionInput

# Fitted for MiniLM on 14 predicates about texts of 11 kinds; another encoder needs a calibration of its own.
PREDICATE_CALIBRATION = Calibration(temperature=1.3, bias={"true": -1.5})


@dataclass(frozen=True, kw_only=True)
class EncodedDecisionOptions(DecisionOptions):
    """Options of decision by an encoder.

    Args:
        truncation: reads the beginning of an input that is too long, instead of refusing it.
    """

    truncation: bool = False


class EncodedDecision(DecisionPipeline):
    """Base of decisions that compare the input with one sentence for each option.

    A predicate without descriptions of true and false is one sentence, which is accepted or not.
    """

    Options: ClassVar[type[PipelineOptions]] = EncodedDecisionOptions

    def sentences(self, question: Question) -> list[str]:
        """Return the sentences of a question."""
        if is_alone(question):
            return [question.instructions]
        return [f"{question.instructions} {option.words}".strip() for option in question.options]

    def sentence_scores(self, question: Question, outputs: Sequence[Any], o: Any) -> Tensor:
        """Return the scores (options,) of a question from the outputs of its sentences."""
        raise NotImplementedError

    def scores(self, item: DecisionInput, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: Any) -> list[Tensor]:
        counts = [len(self.sentences(question)) for question in item.questions]
        ends = list(accumulate(counts))
        return [
            self.sentence_scores(question, outputs[end - count : end], o)
            for question, count, end in zip(item.questions, counts, ends, strict=True)
        ]


def is_alone(question: Question) -> bool:
    """Return whether a question is a predicate without descriptions, which has one sentence."""
    return question.type == PREDICATE and not any(option.description for option in question.options)


def accept_scores(question: Question, score: Tensor | float) -> Tensor:
    """Return scores of true and false, in the question's order, whose softmax is the sigmoid of a score."""
    return torch.tensor([float(score) if option.value is True else 0.0 for option in question.options])


class JudgedDecision(EncodedDecision):
    """Decides by a classifier that reads the input with each sentence.

    The score of a sentence is the logit of entailment (Yin et al., 2019, arXiv:1909.00161), or a reranker's only logit.
    A predicate is entailment against contradiction, or the sigmoid of the reranker.
    """

    auto = "AutoModelForSequenceClassification"

    @cached_property
    def entailment(self) -> int | None:
        """Number of the entailment label; None for a reranker. Raises UnsupportedConfig for other classifiers."""
        return None if self.model.config.num_labels == 1 else entailment_label(self.model, self.task)

    def preprocess(self, items: Sequence[DecisionInput], o: EncodedDecisionOptions) -> list[Preprocessed]:
        found: list[Preprocessed] = []
        for item in items:
            sentences = [sentence for question in item.questions for sentence in self.sentences(question)]
            judges = self.entailment is not None  # a premise comes first, and so does the query of a reranker
            pairs = [(item.state, each) if judges else (each, item.state) for each in sentences]
            limits = self.truncation_options("only_first" if judges else "only_second") if o.truncation else None
            encodings = self.tokenizer.run(pairs, words=False, special=True, limits=limits)
            inputs = [self.to_input(encoding) for encoding in encodings]
            found.append(too_long(max(len(each.ids) for each in inputs), self.max_positions) or inputs)
        return found

    def sentence_scores(self, question: Question, outputs: Sequence[Tensor], o: Any) -> Tensor:
        logits = torch.stack(list(outputs))  # (sentences, classes)
        if self.entailment is None:
            return accept_scores(question, logits[0, 0]) if is_alone(question) else logits[:, 0]
        if not is_alone(question):
            return logits[:, self.entailment]
        return accept_scores(question, logits[0, self.entailment] - logits[0, contradiction_label(self.entailment)])


class EmbeddedDecision(EmbeddingPipeline, EncodedDecision):
    """Decides by the similarity of the input's embedding to that of each sentence.

    Scores are cosines times `SCALE`, as in zero-shot classification. That of a predicate is relative to the mean of
    `reference_texts`, and calibrated: most texts are more similar to any sentence about them.
    """

    reference_texts: Sequence[str] = VARIED_TEXTS

    def preprocess(self, items: Sequence[DecisionInput], o: EncodedDecisionOptions) -> list[Preprocessed]:
        return [
            self.encode_sentences(
                [item.state, *(each for question in item.questions for each in self.sentences(question))], o.truncation
            )
            for item in items
        ]

    @cached_property
    def references(self) -> Tensor:
        """Embeddings of the reference texts (texts, width)."""
        found: Tensor = self.encoder.encode(list(self.reference_texts), convert_to_tensor=True, prompt="")
        return found.float().cpu()

    def scores(self, item: DecisionInput, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: Any) -> list[Tensor]:
        vectors = [output[: self.encoder.truncate_dim] for output in outputs]
        return super().scores(item, inputs[1:], [(vectors[0], vector) for vector in vectors[1:]], o)

    def calibration(self, question: Question, o: Any) -> Calibration | None:
        found = super().calibration(question, o)
        return PREDICATE_CALIBRATION if found is None and o.calibration is True and is_alone(question) else found

    def sentence_scores(self, question: Question, outputs: Sequence[Any], o: Any) -> Tensor:
        state, sentences = outputs[0][0], torch.stack([sentence for _, sentence in outputs])
        similar = self.encoder.similarity(state[None], sentences)[0]  # (sentences,)
        if not is_alone(question):
            return SCALE * similar
        usual = self.encoder.similarity(self.references, sentences).mean()
        return accept_scores(question, SCALE * (similar[0] - usual))
