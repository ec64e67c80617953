"""Reader of question-answering: contexts in windows, with the start and end token of an answer (arXiv:1806.03822).

Answers have the forms of SQuAD, or are a text that occurs once in the context, or spans as in SubjQA
(arXiv:2004.14283).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import InvalidInput
from ...pipelines.question_answering.pipeline import STRIDE, WINDOW
from ...tokenizers.tokenizer import Tokenizer
from .columns import (
    ReaderOptions,
    column_use,
    count_note,
    encode_rows,
    find_column,
    is_missing,
    require_cell,
    require_column,
    require_text,
    shorten,
    token_type_column,
    truncation,
)
from .features import FeatureBuilder, Features
from .source import CHUNK, Row, Rows

QUESTION = ("question", "query")
CONTEXT = ("context", "review", "passage", "document", "text")
ANSWERS = ("answers", "answer", "human_ans_spans", "answer_text")
STARTS = ("answer_start", "start", "human_ans_indices")
ID = ("id", "qas_id", "question_id", "q_review_id")
SUBJQA = "human_ans_indices"
NO_ANSWER = "ANSWERNOTFOUND"  # SubjQA's mark of no answer, also at the end of every review
Span = tuple[int, str]  # first character in the context, text


@dataclass(frozen=True, kw_only=True)
class QuestionAnsweringOptions(ReaderOptions):
    """Options of question-answering; max_length is the length of a window, 384 by default.

    Args:
        question_column, context_column, answers_column, start_column, id_column: detected by name when None; a start
            column is needed only if the column of answers has no positions.
        stride: overlap of the windows of a context in tokens; default 128, or half of a smaller window.
    """

    question_column: str | None = None
    context_column: str | None = None
    answers_column: str | None = None
    start_column: str | None = None
    id_column: str | None = None
    stride: int | None = None


@dataclass(frozen=True)
class Question:
    """A question about a context; `answers` is empty if the context has no answer."""

    id: str
    question: str
    context: str
    answers: tuple[Span, ...]


@dataclass(frozen=True)
class Questions:
    """Questions of a data set, read from rows at each access: `Questions.of(rows, options)[7]`."""

    rows: Rows
    question: str
    context: str
    answers: str | None
    start: str | None
    id: str | None

    @classmethod
    def of(cls, source: Any, options: QuestionAnsweringOptions, *, require_labels: bool = True) -> Questions:
        """Detect the columns. Raises InvalidInput for a missing column."""
        rows = Rows.of(source)
        question = require_column(rows, options.question_column, QUESTION, "question_column")
        context = require_column(rows, options.context_column, CONTEXT, "context_column")
        find = require_column if require_labels else find_column
        return cls(
            rows, question, context,
            find(rows, options.answers_column, ANSWERS, "answers_column"),
            find_column(rows, options.start_column, STARTS, "start_column"),
            find_column(rows, options.id_column, ID, "id_column"),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Question:
        return self.read(number, self.rows[number])

    def read(self, number: int, row: Row) -> Question:
        """Read the question of a row. Raises InvalidInput for an answer that is not in its context."""
        question = require_text(self.rows, number, row, self.question) or ""
        context = require_text(self.rows, number, row, self.context) or ""
        plain = context.removesuffix(NO_ANSWER).rstrip() if self.start == SUBJQA else context
        spans = self.spans(number, row)
        answers = tuple(self.locate(number, plain, begin, end, words) for begin, end, words in spans)
        name = str(row[self.id]) if self.id is not None and row.get(self.id) is not None else str(number)
        return Question(name, question, plain, answers)

    def spans(self, number: int, row: Row) -> list[tuple[int | None, int | None, str]]:
        """Return (begin, end, text) of each answer, None for unknown characters. Raises InvalidInput."""
        if self.answers is None or row.get("is_impossible") is True or is_missing(row.get(self.answers)):
            return []
        value = self.literal(number, self.answers, require_cell(self.rows, number, row, self.answers))
        starts = row.get(self.start) if self.start is not None else None
        starts = self.literal(number, self.start or "", starts)
        if isinstance(value, Mapping):
            value, starts = value.get("text", ()), value.get("answer_start", value.get("start"))
        texts = [value] if isinstance(value, (str, Mapping)) else list(value)
        if starts is None or (isinstance(starts, Sequence) and not starts):
            begins: list[Any] = [None] * len(texts)
        elif isinstance(starts, int) or (isinstance(starts, tuple) and all(isinstance(s, int) for s in starts)):
            begins = [starts] if len(texts) == 1 else list(starts) if isinstance(starts, tuple) else [starts]
        else:
            begins = list(starts)
        if len(begins) != len(texts):
            raise InvalidInput(
                f"{self.rows.subject(number)} has {len(texts)} answers and {len(begins)} positions of answers."
            )
        spans = [self.span(number, *pair) for pair in zip(texts, begins, strict=True)]
        if self.start == SUBJQA:  # a span may run into the mark at the end of the review
            spans = [(begin, end, words.removesuffix(NO_ANSWER).rstrip()) for begin, end, words in spans]
        return [span for span in spans if span[2]]

    def span(self, number: int, words: Any, position: Any) -> tuple[int | None, int | None, str]:
        """Return (begin, end, text) of one answer. Raises InvalidInput for other types."""
        if isinstance(words, Mapping):
            position = words.get("answer_start", words.get("start"))
            words = words.get("text")
        begin, end = position if isinstance(position, (tuple, list)) else (position, None)
        whole = all(n is None or (isinstance(n, int) and not isinstance(n, bool)) for n in (begin, end))
        if not isinstance(words, str) or not whole:
            raise InvalidInput(
                f"{self.rows.subject(number)} has an answer that is no text with a position: {shorten(words)}, "
                f"{position!r}."
            )
        return begin, end, words

    def literal(self, number: int, name: str, value: Any) -> Any:
        """Return a CSV cell that spells a Python value as that value; other cells unchanged. Raises InvalidInput."""
        if name == self.start and isinstance(value, str) and value.strip().lstrip("-").isdigit():
            return int(value)
        if not isinstance(value, str) or not re.match(r"\s*[\[({].*[\])}]\s*$", value, re.DOTALL):
            return value
        if name == self.answers and not re.match(r"\s*[\[({]\s*['\"\[({\])}]", value):
            return value  # a text in brackets
        try:
            return ast.literal_eval(value.strip())
        except (ValueError, SyntaxError) as error:
            raise InvalidInput(
                f"{self.rows.subject(number)} has {name} that cannot be read: {shorten(value)}."
            ) from error

    def locate(self, number: int, context: str, begin: int | None, end: int | None, words: str) -> Span:
        """Return the span of an answer in the context. Raises InvalidInput if it is missing or ambiguous."""
        row = self.rows.subject(number)
        if begin is None:
            count = context.count(words)
            if count != 1:
                problem = "is not in" if not count else f"occurs {count} times in"
                raise InvalidInput(
                    f"{row}: the answer {shorten(words)} {problem} the context {shorten(context)}. Give its begin "
                    "in characters: answer_start."
                )
            return context.index(words), words
        passage = context[begin : begin + len(words) if end is None else end] if begin >= 0 else ""
        if passage == words or (end is not None and passage and is_loose_copy(words, passage)):
            return begin, passage
        index = context.find(words)
        hint = f"it begins at {index}" if index >= 0 else "the context does not hold it"
        raise InvalidInput(
            f"{row}: the answer {shorten(words)} is not in the context at character {begin}, where the text is "
            f"{shorten(passage)}; {hint}. The context begins {shorten(context)}."
        )


def is_loose_copy(words: str, passage: str) -> bool:
    """Return whether words equal a passage except for punctuation, white space and bracketed text, as in SubjQA."""
    rest = iter(passage)
    return all(letter in rest for letter in words if letter.isalnum())


def prepare(
    source: Any, tokenizer: Tokenizer, options: QuestionAnsweringOptions, *, require_labels: bool = True
) -> Features:
    """Build features with `input_ids`, `start_positions` and `end_positions` of the first answer.

    A window without the whole answer has both positions at [CLS] (at 0 without a [CLS]). `extras` has `window`, the
    number of the window in its row; evaluation encodes the windows again with `encode_windows`.

    Args:
        require_labels: refuse data without a column of answers; otherwise such data has no positions.

    Raises:
        InvalidInput: a missing column, or an answer that is not at its position, with its row.
    """
    questions = Questions.of(source, options, require_labels=require_labels)
    rows, side = questions.rows, context_side(tokenizer)
    positions = ("start_positions", "end_positions") if questions.answers is not None else ()
    builder = FeatureBuilder(
        {"input_ids": "int32", **token_type_column(tokenizer)}, dict.fromkeys(positions, "int64"), {"window": "int32"}
    )
    without = 0
    for begin, chunk in rows.chunks(CHUNK // 4):
        numbers = range(begin, begin + len(chunk))
        batch = [questions.read(number, row) for number, row in enumerate(chunk, begin)]
        encodings = encode_windows(batch, tokenizer, options, rows, numbers)
        for number, question, windows in zip(numbers, batch, encodings, strict=True):
            hit = False
            for window, encoding in enumerate(windows):
                span = answer_tokens(encoding, question.answers[0], side) if question.answers else None
                hit |= span is not None
                first, last = span or (no_answer_token(encoding.ids, tokenizer),) * 2
                builder.add(number, input_ids=encoding.ids, token_type_ids=encoding.type_ids, start_positions=first,
                            end_positions=last, window=window)  # fmt: skip
            without += bool(question.answers) and not hit
    notes = count_note(
        without, len(rows), "answers fit into no window; their questions are trained as questions without an answer."
    )
    q = questions
    use = column_use(rows, [q.question, q.context, q.answers, q.start, q.id], options)
    return builder.build(rows, notes=notes + use.notes, **use.feature_fields)


def encode_windows(
    questions: Sequence[Question],
    tokenizer: Tokenizer,
    options: QuestionAnsweringOptions,
    rows: Rows,
    numbers: Sequence[int],
) -> list[list[Any]]:
    """Return the encodings of the windows of each question.

    Args:
        numbers: row numbers of the questions, for messages.

    Raises:
        InvalidInput: the stride leaves no new token, or a question leaves no room for its context.
    """
    length, side = options.limit(tokenizer, WINDOW), context_side(tokenizer)
    if options.stride is not None and not 0 <= options.stride < length:
        raise InvalidInput(f"stride = {options.stride} must be smaller than max_length = {length}, and not negative.")
    special = tokenizer.num_special_tokens_to_add(True)
    sizes = [len(ids) for ids in tokenizer.encode_ids([q.question for q in questions], special=False)]
    strides: dict[int, list[int]] = {}
    for index, size in enumerate(sizes):
        stride = stride_of(options, length, length - special - size, rows, numbers[index])
        strides.setdefault(stride, []).append(index)
    windows: list[list[Any]] = [[] for _ in questions]
    for stride, indices in strides.items():
        pairs = [(questions[i].question, questions[i].context)[:: 1 if side else -1] for i in indices]
        settings = truncation(tokenizer, length, "only_second" if side else "only_first", stride) | {
            "direction": "right"
        }
        encodings = encode_rows(tokenizer, pairs, rows, [numbers[i] for i in indices], settings)
        for index, encoding in zip(indices, encodings, strict=True):
            windows[index] = [encoding, *encoding.overflowing]
    return windows


def stride_of(options: QuestionAnsweringOptions, length: int, room: int, rows: Rows, number: int) -> int:
    """Return the overlap of the windows of a question with `room` tokens for its context. Raises InvalidInput."""
    if room < 2 or (options.stride is not None and options.stride >= room):
        stride = "" if options.stride is None else f" and stride = {options.stride}"
        raise InvalidInput(
            f"{rows.subject(number)} has a question that leaves {max(room, 0)} tokens for its context, with max_length "
            f"= {length}{stride}. Shorten it, or set a larger max_length{' or a smaller stride' if stride else ''}."
        )
    return min(length // 2, STRIDE, room // 2) if options.stride is None else options.stride


def context_side(tokenizer: Tokenizer) -> int:
    """Return the index of the context in the text pair: 1, or 0 for a tokenizer that pads on the left."""
    return int(tokenizer.padding_side == "right")


def no_answer_token(ids: Sequence[int], tokenizer: Tokenizer) -> int:
    """Return the position that means no answer: [CLS], or 0."""
    return ids.index(tokenizer.cls_token_id) if tokenizer.cls_token_id in ids else 0


def answer_tokens(window: Any, answer: Span, side: int) -> tuple[int, int] | None:
    """Return the (first, last) token of an answer; None for a window that does not hold the whole answer."""
    begin, end = answer[0], answer[0] + len(answer[1])
    tokens = enumerate(zip(window.sequence_ids, window.offsets, strict=True))
    spans = [(index, first, last) for index, (text, (first, last)) in tokens if text == side and first < last]
    touched = [index for index, first, last in spans if last > begin and first < end]
    if not touched or spans[0][1] > begin or spans[-1][2] < end:
        return None
    return touched[0], touched[-1]
