"""question-answering: the span of a context that answers a question (Rajpurkar et al., 2018, arXiv:1806.03822)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ..errors import InvalidInput, MultiheadError
from .base import ForwardPipeline, Pipeline, PipelineOptions, too_long
from .spans import best_spans, characters
from .streaming_batcher import ModelInput, Preprocessed

WINDOW = 384  # default tokens of a window
STRIDE = 128  # default tokens that windows share
WindowSize = tuple[int, int]  # tokens of a window, tokens that windows share


@dataclass(frozen=True, kw_only=True)
class QuestionAnsweringOptions(PipelineOptions):
    """Options of extractive question-answering.

    Args:
        top_k: answers, likeliest first; several are a list. max_answer_len: tokens of an answer at most.
        handle_impossible_answer: "" is an answer too, if the model finds none in the context.
        align_to_words: answers are whole words. max_seq_len: tokens of a window, question included.
        doc_stride: tokens of the context that windows share. max_question_len: tokens of a question; None for all.
    """

    top_k: int = 1
    max_answer_len: int = 15
    handle_impossible_answer: bool = False
    align_to_words: bool = True
    max_seq_len: int | None = None
    doc_stride: int | None = None
    max_question_len: int | None = None

    def check(self) -> None:
        super().check()
        for name in ("top_k", "max_answer_len", "max_seq_len", "max_question_len"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise InvalidInput(f"{name} is a whole number from 1, not {value!r}.")
        if self.doc_stride is not None and (not isinstance(self.doc_stride, int) or self.doc_stride < 0):
            raise InvalidInput(f"doc_stride is a number of tokens, not {self.doc_stride!r}.")


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
            if not isinstance(item.get(name), str) or not item[name]:
                raise InvalidInput(f"must have a {name}, which is a string and not empty.")
        return item["question"], item["context"]

    def format_list(self, answers: list[Any], o: Any) -> Any:
        return answers[0] if len(answers) == 1 else answers


class QuestionAnswering(QuestionContextPipeline, ForwardPipeline):
    """Finds answers in contexts of any length: `{"score", "start", "end", "answer"}`, characters of the context."""

    auto = "AutoModelForQuestionAnswering"
    Options: ClassVar[type[PipelineOptions]] = QuestionAnsweringOptions
    per_token = True

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
        context, null = item[1], 1.0
        answers: list[dict[str, Any]] = []
        for each, scores in zip(inputs, outputs, strict=True):
            spans, none = best_spans(
                each.note, scores, self.context_side, self.tokenizer.cls_token_id, o.top_k, o.max_answer_len
            )
            null = min(null, none)
            for start, end, score in spans:
                first, last = characters(each.note, start, end, self.context_side, o.align_to_words)
                answers.append({"score": score, "start": first, "end": last, "answer": context[first:last]})
        if o.handle_impossible_answer:
            answers.append({"score": null, "start": 0, "end": 0, "answer": ""})
        best = sorted(answers, key=lambda answer: -answer["score"])[: o.top_k]
        return best[0] if len(best) == 1 else best


def pair_questions(question: Any, context: Any) -> Any:
    """Return inputs from questions and contexts. Raises InvalidInput if their numbers differ."""
    if isinstance(question, (list, tuple)):
        contexts = [context] * len(question) if isinstance(context, str) else context
        if not isinstance(contexts, (list, tuple)) or len(contexts) != len(question):
            raise InvalidInput("There must be one context for all questions, or one for each.")
        return [{"question": q, "context": c} for q, c in zip(question, contexts, strict=True)]
    return {"question": question, "context": context}
