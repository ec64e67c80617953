"""question-answering: the span of a context that answers a question (Rajpurkar et al., 2018, arXiv:1806.03822)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ..errors import InvalidInput, MultiheadError
from .base import Options, Pipeline, Reader, too_long
from .spans import best_spans, characters
from .streaming_batcher import Piece

WINDOW = 384  # tokens of a window where nothing is said
STRIDE = 128  # tokens that windows share


@dataclass(frozen=True, kw_only=True)
class Asking(Options):
    """Of extractive question-answering.

    Args:
        top_k: answers, likeliest first; several come as a list. max_answer_len: tokens of an answer at most.
        handle_impossible_answer: "" is an answer too, where the model thinks that the context holds none.
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


class Questions(Pipeline):
    """What every way of answering shares: `{"question": ..., "context": ...}` comes in, one or many."""

    def __call__(self, inputs: Any = None, *, question: Any = None, context: Any = None, **options: Any) -> Any:
        """The answers.

        Args:
            inputs: `{"question": ..., "context": ...}` or several. question, context: instead of inputs; strings, or
                several questions about one context, or as many contexts as questions.

        Raises:
            InvalidInput: no question or no context.
        """
        return super().__call__(asked(question, context) if inputs is None else inputs, **options)

    def accept(self, item: Any, o: Any) -> tuple[str, str]:
        if not isinstance(item, Mapping):
            raise InvalidInput(f'must be {{"question": "...", "context": "..."}}, not {type(item).__name__}.')
        for name in ("question", "context"):
            if not isinstance(item.get(name), str) or not item[name]:
                raise InvalidInput(f"must have a {name}, which is a string and not empty.")
        return item["question"], item["context"]

    def together(self, found: list[Any], o: Any) -> Any:
        return found[0] if len(found) == 1 else found


class QuestionAnswering(Questions, Reader):
    """Finds answers in contexts of any length: `{"score", "start", "end", "answer"}`, characters of the context."""

    auto = "AutoModelForQuestionAnswering"
    Options: ClassVar[type[Options]] = Asking
    by_token = True

    def pieces(self, items: Sequence[tuple[str, str]], o: Asking) -> list[list[Piece] | MultiheadError]:
        if o.doc_stride is not None and o.max_seq_len is not None and o.doc_stride >= o.max_seq_len:
            raise InvalidInput(f"doc_stride = {o.doc_stride} must be smaller than max_seq_len = {o.max_seq_len}.")
        pairs = [self.pair(question, context, o) for question, context in items]
        questions = [pair[1 - self.context_side] for pair in pairs]
        counted = self.tokenizer.run(questions, words=False, special=False, limits=None)
        limits = [self.limits(len(found), o) for found in counted]
        return [self.windows(encoding) for encoding in self.encodings(pairs, limits)]

    def limits(self, question: int, o: Asking) -> tuple[int, int] | MultiheadError:
        """Tokens of a window, and how many of the context's windows share, beside a question of so many tokens.

        Where nothing is said, a long question gets a longer window, as far as the model reads one.
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

    def encodings(
        self, pairs: Sequence[tuple[str, str]], limits: Sequence[tuple[int, int] | MultiheadError]
    ) -> list[Any]:
        """Each pair's encoding, in windows, or the error where there is one; those with one limit are read together."""
        found: list[Any] = list(limits)
        for limit in {limit for limit in limits if isinstance(limit, tuple)}:
            numbers = [number for number, own in enumerate(limits) if own == limit]
            options = {
                "max_length": limit[0], "stride": limit[1], "direction": "right",
                "strategy": "only_second" if self.context_side else "only_first",
            }  # fmt: skip
            own = self.tokenizer.run([pairs[n] for n in numbers], words=False, special=True, limits=options)
            for number, encoding in zip(numbers, own, strict=True):
                found[number] = encoding
        return found

    def windows(self, encoding: Any) -> list[Piece] | MultiheadError:
        if isinstance(encoding, MultiheadError):
            return encoding
        windows = [encoding, *encoding.overflowing]
        return too_long(max(map(len, windows)), self.room) or [self.piece(window, window) for window in windows]

    @property
    def context_side(self) -> int:
        """Whether the context is the second text of a pair (1), or the first, where models read from the right."""
        return int(self.tokenizer.padding_side == "right")

    def pair(self, question: str, context: str, o: Asking) -> tuple[str, str]:
        if o.max_question_len is not None:
            found = self.tokenizer.run([question], words=False, special=False, limits=None)[0]
            if len(found) > o.max_question_len:
                question = question[: found.offsets[o.max_question_len - 1][1]]
        return (question, context) if self.context_side else (context, question)

    def finish(self, item: tuple[str, str], pieces: Sequence[Piece], found: Sequence[Tensor], o: Asking) -> Any:
        context, null = item[1], 1.0
        answers: list[dict[str, Any]] = []
        for piece, scores in zip(pieces, found, strict=True):
            spans, none = best_spans(
                piece.note, scores, self.context_side, self.tokenizer.cls_token_id, o.top_k, o.max_answer_len
            )
            null = min(null, none)
            for start, end, score in spans:
                first, last = characters(piece.note, start, end, self.context_side, o.align_to_words)
                answers.append({"score": score, "start": first, "end": last, "answer": context[first:last]})
        if o.handle_impossible_answer:
            answers.append({"score": null, "start": 0, "end": 0, "answer": ""})
        best = sorted(answers, key=lambda answer: -answer["score"])[: o.top_k]
        return best[0] if len(best) == 1 else best


def asked(question: Any, context: Any) -> Any:
    """Inputs from questions and contexts given apart. Raises InvalidInput where they do not fit each other."""
    if isinstance(question, (list, tuple)):
        contexts = [context] * len(question) if isinstance(context, str) else context
        if not isinstance(contexts, (list, tuple)) or len(contexts) != len(question):
            raise InvalidInput("There must be one context for all questions, or one for each.")
        return [{"question": q, "context": c} for q, c in zip(question, contexts, strict=True)]
    return {"question": question, "context": context}
