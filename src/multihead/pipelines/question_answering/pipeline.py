"""question-answering: the span of a context that answers a question (Rajpurkar et al., 2018, arXiv:1806.03822)."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ...errors import InvalidInput, MultiheadError
from ...sentences.encoder import SentenceEncoder
from ..answers import WithNotices
from ..base import ForwardPipeline, Pipeline, PipelineOptions, too_long
from ..calibration import Calibration, find_calibration
from ..encoders import AUTO
from ..streaming_batcher import ModelInput, Preprocessed
from .passage_weights import SHARED_WORDS_WEIGHT, SIMILARITY_WEIGHT, PassageWeights
from .spans import ContextScores, best_spans, span_characters

WINDOW = 384  # default tokens of a window
STRIDE = 128  # default tokens that windows share
LABELS = ("answer", "no answer")  # of a calibration
SPARE = 4  # spans for each answer, because several may be the same whole words
FAR = 1e4  # a margin that is as good as infinite
TINY = 1e-30
UNLIKELY = (
    "The context probably holds no answer to the question (probability {:.2f}). handle_impossible_answer=True answers "
    'such questions with "".'
)
NORMALIZATIONS = ("context", "window")
WindowSize = tuple[int, int]  # tokens of a window, tokens that windows share


class Span(NamedTuple):
    """Characters of an answer in its context, with its log-score."""

    start: int
    end: int
    score: float


class Spans(NamedTuple):
    """Answers, best first, and the log-score of no answer."""

    spans: list[Span]
    null: float


@dataclass(frozen=True, kw_only=True)
class QuestionAnsweringOptions(PipelineOptions):
    """Options of extractive question-answering.

    Args:
        top_k: answers, likeliest first; several are a list. max_answer_len: tokens of an answer at most.
        handle_impossible_answer: "" is an answer too, if the model finds none in the context.
        align_to_words: answers are whole words. max_seq_len: tokens of a window, question included.
        doc_stride: tokens of the context that windows share. max_question_len: tokens of a question; None for all.
        normalization: "context" compares the spans of all windows; "window" gives each window scores of its own, as
            the reference does, so that a window without the answer may win. They differ for several windows only.
        passage_weight: how much the fit of its passage to the question counts for a span of a context of several
            windows: added to the log-score of the best passage over one that does not fit at all. 0 ignores passages.
        retriever: a sentence encoder, or its name, that judges the fit of passages. None counts shared words. "auto" is
            the default sentence encoder for answerers over it, such as the package's own, and None for other models.
        calibration: True applies the calibration of "no answer" that is stored with the model, if any; False none. Or
            a `Calibration`, or a file with one.
        no_answer: adds "no_answer", the probability that the context holds no answer.
    """

    top_k: int = 1
    max_answer_len: int = 15
    handle_impossible_answer: bool = False
    align_to_words: bool = True
    max_seq_len: int | None = None
    doc_stride: int | None = None
    max_question_len: int | None = None
    normalization: str = "context"
    passage_weight: float | None = None
    retriever: Any = AUTO
    calibration: Any = True
    no_answer: bool = False

    def check(self) -> None:
        super().check()
        for name in ("top_k", "max_answer_len", "max_seq_len", "max_question_len"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InvalidInput(f"{name} is a whole number from 1, not {value!r}.")
        if self.doc_stride is not None and (not isinstance(self.doc_stride, int) or self.doc_stride < 0):
            raise InvalidInput(f"doc_stride is a number of tokens, not {self.doc_stride!r}.")
        if self.normalization not in NORMALIZATIONS:
            raise InvalidInput(f'normalization is "context" or "window", not {self.normalization!r}.')
        weight = self.passage_weight
        if weight is not None and (isinstance(weight, bool) or not isinstance(weight, (int, float)) or not weight >= 0):
            raise InvalidInput(f"passage_weight is a number from 0, not {weight!r}.")
        if self.retriever is not None and not isinstance(self.retriever, (str, os.PathLike, SentenceEncoder)):
            raise InvalidInput(f"retriever is a sentence encoder or its name, not {type(self.retriever).__name__}.")


class QuestionContextPipeline(Pipeline):
    """Base of all ways to answer questions. Inputs are `{"question": ..., "context": ...}`, one or several."""

    def __call__(self, inputs: Any = None, *, question: Any = None, context: Any = None, **options: Any) -> Any:
        """Answer questions about contexts.

        Args:
            inputs: `{"question": ..., "context": ...}` or several. question, context: instead of inputs; strings, or
                several questions with one context or as many contexts.

        Raises:
            InvalidInput: no question or no context.
        """
        return super().__call__(pair_questions(question, context) if inputs is None else inputs, **options)

    def validate(self, item: Any, o: Any) -> tuple[str, str]:
        if not isinstance(item, Mapping):
            raise InvalidInput(f'must be {{"question": "...", "context": "..."}}, not {type(item).__name__}.')
        for name in ("question", "context"):
            if not isinstance(item.get(name), str) or not item[name].strip():
                raise InvalidInput(f"must have a {name}, which is a string and not empty.")
        return item["question"], item["context"]

    def format_list(self, answers: list[Any], o: Any) -> Any:
        return answers[0] if len(answers) == 1 else answers


class QuestionAnswering(QuestionContextPipeline, ForwardPipeline):
    """Finds answers in contexts of any length: `{"score", "start", "end", "answer"}`, characters of the context."""

    auto = "AutoModelForQuestionAnswering"
    Options: ClassVar[type[PipelineOptions]] = QuestionAnsweringOptions
    per_token = True

    def __init__(self, model: Any, tokenizer: Any, name: str, **options: Any) -> None:
        self.passages = PassageWeights(model)
        super().__init__(model, tokenizer, name, **options)

    def resolve_options(self, **options: Any) -> Any:
        o: QuestionAnsweringOptions = super().resolve_options(**options)
        calibration = find_calibration(o.calibration, self.model)
        if calibration is not None:
            calibration.check_labels(LABELS)
        retriever, weight = self.passages.choose_retriever(o.retriever), o.passage_weight
        if weight is None:
            weight = SHARED_WORDS_WEIGHT if retriever is None else SIMILARITY_WEIGHT
        return replace(o, calibration=calibration or False, passage_weight=weight, retriever=retriever)

    def preprocess(self, items: Sequence[tuple[str, str]], o: QuestionAnsweringOptions) -> list[Preprocessed]:
        if o.doc_stride is not None and o.max_seq_len is not None and o.doc_stride >= o.max_seq_len:
            raise InvalidInput(f"doc_stride = {o.doc_stride} must be smaller than max_seq_len = {o.max_seq_len}.")
        pairs = [self.order_pair(question, context, o) for question, context in items]
        questions = [pair[1 - self.context_side] for pair in pairs]
        encoded = self.tokenizer.run(questions, words=False, special=False, limits=None)
        sizes = [self.window_size(len(question), o) for question in encoded]
        return [self.windows(encoding) for encoding in self.encode_windows(pairs, sizes)]

    def window_size(self, question: int, o: QuestionAnsweringOptions) -> WindowSize | MultiheadError:
        """Return the tokens of a window and the tokens that windows share, for a question of so many tokens.

        Without options, a long question gets a longer window, as far as the model reads one.
        """
        taken = question + self.tokenizer.num_special_tokens_to_add(True)
        usual = max(WINDOW, taken + STRIDE)
        window = o.max_seq_len or min(self.limit or usual, usual)
        room, stride = window - taken, min(window // 2, STRIDE) if o.doc_stride is None else o.doc_stride
        if room < 1:
            return InvalidInput(
                f"has a question of {question} tokens, which leaves no room for its context in a window of {window}. "
                "Shorten it, or give max_question_len."
            )
        if stride < room:
            return window, stride
        if o.doc_stride is None:
            return window, room // 2
        return InvalidInput(
            f"has a question of {question} tokens, which leaves {room} for its context in a window of {window}; "
            f"doc_stride = {stride} must be smaller."
        )

    def encode_windows(
        self, pairs: Sequence[tuple[str, str]], sizes: Sequence[WindowSize | MultiheadError]
    ) -> list[Any]:
        """Return the encoding of each pair with its overflowing windows, or its error.

        Pairs with windows of one size are tokenized in one call.
        """
        found: list[Any] = list(sizes)
        for size in {size for size in sizes if isinstance(size, tuple)}:
            numbers = [number for number, own in enumerate(sizes) if own == size]
            limits = {
                "max_length": size[0], "stride": size[1], "direction": "right",
                "strategy": "only_second" if self.context_side else "only_first",
            }  # fmt: skip
            encodings = self.tokenizer.run([pairs[n] for n in numbers], words=False, special=True, limits=limits)
            for number, encoding in zip(numbers, encodings, strict=True):
                found[number] = encoding
        return found

    def windows(self, encoding: Any) -> Preprocessed:
        """Return one model input for each window of an encoding, or its error."""
        if isinstance(encoding, MultiheadError):
            return encoding
        windows = [encoding, *encoding.overflowing]
        error = too_long(max(map(len, windows)), self.max_positions)
        return error or [self.to_input(window, window) for window in windows]

    @property
    def context_side(self) -> int:
        """Position of the context in a pair: 1, or 0 for models that pad on the left."""
        return int(self.tokenizer.padding_side == "right")

    def order_pair(self, question: str, context: str, o: QuestionAnsweringOptions) -> tuple[str, str]:
        """Return question and context in the order that the model reads, the question cut to max_question_len."""
        if o.max_question_len is not None:
            encoding = self.tokenizer.run([question], words=False, special=False, limits=None)[0]
            if len(encoding) > o.max_question_len:
                question = question[: encoding.offsets[o.max_question_len - 1][1]]
        return (question, context) if self.context_side else (context, question)

    def postprocess(
        self, item: tuple[str, str], inputs: Sequence[ModelInput], outputs: Sequence[Tensor],
        o: QuestionAnsweringOptions,
    ) -> Any:  # fmt: skip
        encodings = [each.note for each in inputs]
        if o.normalization == "window" and len(inputs) > 1:
            found = [self.find_spans(item, [e], [own], o) for e, own in zip(encodings, outputs, strict=True)]
        else:
            found = [self.find_spans(item, encodings, outputs, o)]
        spans = sorted((span for each in found for span in each.spans), key=lambda span: -span.score)
        if not spans and not o.handle_impossible_answer:
            return []
        return format_answers(Spans(spans, min(each.null for each in found)), item[1], o)

    def find_spans(
        self, item: tuple[str, str], encodings: Sequence[Any], outputs: Sequence[Tensor], o: QuestionAnsweringOptions
    ) -> Spans:
        """Return the best spans of some windows, whose scores compete with each other."""
        side = self.context_side
        scores = ContextScores.of(encodings, outputs, side, self.tokenizer.cls_token_id)
        several = len(encodings) > 1  # the reference returns the same words twice, from several spans of one window
        weights = None
        if several:
            begins = [encodings[window].offsets[position][0] for window, position in scores.places]
            weights = self.passages.of_tokens(*item, begins, o.passage_weight, o.retriever)
        best, null = best_spans(scores, SPARE * o.top_k if several else o.top_k, o.max_answer_len, weights)
        spans = [
            Span(*span_characters(encodings, scores.places[a], scores.places[b], side, o.align_to_words), score)
            for a, b, score in best
        ]
        if several:
            unique: dict[tuple[int, int], Span] = {}
            for span in spans:
                unique.setdefault((span.start, span.end), span)
            spans = [*unique.values()][: o.top_k]
        return Spans(spans, null)


def format_answers(found: Spans, context: str, o: QuestionAnsweringOptions) -> Any:
    """Return the record of the best answer, or of several, with a notice if the context probably holds none."""
    best = found.spans[0].score if found.spans else -math.inf
    likely, unlikely = judge(best - found.null if found.spans else best, o.calibration or None)
    accepted = likely >= (o.calibration.thresholds.get(LABELS[0], 0.5) if o.calibration else 0.5)
    scale = math.log(max(likely, TINY)) - best if o.handle_impossible_answer and o.calibration else 0.0
    answers: list[dict[str, Any]] = [
        {"score": math.exp(span.score + scale), "start": span.start, "end": span.end,
         "answer": context[span.start : span.end]} for span in found.spans
    ]  # fmt: skip
    if o.handle_impossible_answer:
        none = {"score": unlikely if o.calibration else math.exp(found.null), "start": 0, "end": 0, "answer": ""}
        place = sum(answer["score"] >= none["score"] for answer in answers)
        if o.calibration:
            place = max(place, 1) if accepted else 0
        answers.insert(place, none)
    if o.no_answer:
        answers = [{**answer, "no_answer": unlikely} for answer in answers]
    answers = answers[: o.top_k]
    record = answers[0] if len(answers) == 1 else answers
    if accepted or o.handle_impossible_answer or not o.calibration:
        return record
    return WithNotices(record, [UNLIKELY.format(unlikely)])


def judge(margin: float, calibration: Calibration | None) -> tuple[float, float]:
    """Return the probability that the context holds an answer, and that it holds none.

    Args:
        margin: log-score of the best span less that of no answer.
    """
    logits = torch.tensor([min(max(margin, -FAR), FAR), 0.0], dtype=torch.float64)
    likely, unlikely = (logits if calibration is None else calibration.apply(logits, LABELS)).softmax(-1).tolist()
    return likely, unlikely


def pair_questions(question: Any, context: Any) -> Any:
    """Return inputs from questions and contexts. Raises InvalidInput if their numbers differ."""
    if isinstance(question, (list, tuple)):
        contexts = [context] * len(question) if isinstance(context, str) else context
        if not isinstance(contexts, (list, tuple)) or len(contexts) != len(question):
            raise InvalidInput("There must be one context for all questions, or one for each.")
        return [{"question": q, "context": c} for q, c in zip(question, contexts, strict=True)]
    return {"question": question, "context": context}
