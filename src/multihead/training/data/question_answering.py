"""question-answering: contexts in windows, with the tokens where an answer begins and ends (arXiv:1806.03822).

Answers come in SQuAD's forms, as a text that the context holds once, or as SubjQA's spans (arXiv:2004.14283).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import InvalidInput
from ...pipelines.question_answering import STRIDE, WINDOW
from ...tokenizers.tokenizer import Tokenizer
from .features import Builder, Features
from .reading import Reading, cell, column, encoded, is_missing, limits, maybe, short, taken, told, typed
from .reading import text as text_in
from .source import CHUNK, Row, Rows

QUESTION = ("question", "query")
CONTEXT = ("context", "review", "passage", "document", "text")
ANSWERS = ("answers", "answer", "human_ans_spans", "answer_text")
STARTS = ("answer_start", "start", "human_ans_indices")
ID = ("id", "qas_id", "question_id", "q_review_id")
SUBJQA = "human_ans_indices"
NONE = "ANSWERNOTFOUND"  # what SubjQA says, at the end of every review too
Span = tuple[int, str]  # first character in the context, text


@dataclass(frozen=True, kw_only=True)
class Options(Reading):
    """Of question-answering; max_length is that of a window, 384 where nothing is said.

    Args:
        question_column, context_column, answers_column, start_column, id_column: guessed when left out; a start column
            only where the answers' column does not say where they stand.
        stride: tokens of the context that windows share; 128, or half of a smaller window, when left out.
    """

    question_column: str | None = None
    context_column: str | None = None
    answers_column: str | None = None
    start_column: str | None = None
    id_column: str | None = None
    stride: int | None = None


@dataclass(frozen=True)
class Question:
    """A question about a context; no answers where the context holds none."""

    id: str
    question: str
    context: str
    answers: tuple[Span, ...]


@dataclass(frozen=True)
class Questions:
    """The questions of rows, each read when it is asked for: `Questions.of(rows, options)[7]`."""

    rows: Rows
    question: str
    context: str
    answers: str | None
    start: str | None
    id: str | None

    @classmethod
    def of(cls, source: Any, options: Options, *, answers: bool = True) -> Questions:
        """Raises InvalidInput for columns that are not there; `answers` says whether those of answers must be."""
        rows = Rows.of(source)
        question = column(rows, options.question_column, QUESTION, "question_column")
        context = column(rows, options.context_column, CONTEXT, "context_column")
        find = column if answers else maybe
        return cls(
            rows, question, context,
            find(rows, options.answers_column, ANSWERS, "answers_column"),
            maybe(rows, options.start_column, STARTS, "start_column"),
            maybe(rows, options.id_column, ID, "id_column"),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Question:
        return self.read(number, self.rows[number])

    def read(self, number: int, row: Row) -> Question:
        """The question of a row. Raises InvalidInput for an answer that does not stand in its context."""
        question = text_in(self.rows, number, row, self.question) or ""
        context = text_in(self.rows, number, row, self.context) or ""
        plain = context.removesuffix(NONE).rstrip() if self.start == SUBJQA else context
        spans = self.spans(number, row)
        found = tuple(self.placed(number, plain, begin, end, words) for begin, end, words in spans)
        name = str(row[self.id]) if self.id is not None and row.get(self.id) is not None else str(number)
        return Question(name, question, plain, found)

    def spans(self, number: int, row: Row) -> list[tuple[int | None, int | None, str]]:
        """(begin, end, text) of each answer, None where the row does not say. Raises InvalidInput."""
        if self.answers is None or row.get("is_impossible") is True or is_missing(row.get(self.answers)):
            return []
        value = self.literal(number, self.answers, cell(self.rows, number, row, self.answers))
        starts = row.get(self.start) if self.start is not None else None
        starts = self.literal(number, self.start or "", starts)
        if isinstance(value, Mapping):
            value, starts = value.get("text", ()), value.get("answer_start", value.get("start"))
        texts = [value] if isinstance(value, (str, Mapping)) else list(value)
        if starts is None or (isinstance(starts, Sequence) and not starts):
            places: list[Any] = [None] * len(texts)
        elif isinstance(starts, int) or (isinstance(starts, tuple) and all(isinstance(s, int) for s in starts)):
            places = [starts] if len(texts) == 1 else list(starts) if isinstance(starts, tuple) else [starts]
        else:
            places = list(starts)
        if len(places) != len(texts):
            raise InvalidInput(f"{self.rows.at(number)} has {len(texts)} answers and {len(places)} places of answers.")
        found = [self.span(number, *pair) for pair in zip(texts, places, strict=True)]
        if self.start == SUBJQA:  # a span may run into the mark at the review's end
            found = [(begin, end, words.removesuffix(NONE).rstrip()) for begin, end, words in found]
        return [span for span in found if span[2]]

    def span(self, number: int, words: Any, place: Any) -> tuple[int | None, int | None, str]:
        if isinstance(words, Mapping):
            place = words.get("answer_start", words.get("start"))
            words = words.get("text")
        begin, end = place if isinstance(place, (tuple, list)) else (place, None)
        whole = all(n is None or (isinstance(n, int) and not isinstance(n, bool)) for n in (begin, end))
        if not isinstance(words, str) or not whole:
            raise InvalidInput(
                f"{self.rows.at(number)} has an answer that is no text and place: {short(words)}, {place!r}."
            )
        return begin, end, words

    def literal(self, number: int, name: str, value: Any) -> Any:
        """A cell of CSV as the Python value that it writes; other cells as they are. Raises InvalidInput."""
        if name == self.start and isinstance(value, str) and value.strip().lstrip("-").isdigit():
            return int(value)
        if not isinstance(value, str) or not re.match(r"\s*[\[({].*[\])}]\s*$", value, re.DOTALL):
            return value
        if name == self.answers and not re.match(r"\s*[\[({]\s*['\"\[({\])}]", value):
            return value  # a text in brackets
        try:
            return ast.literal_eval(value.strip())
        except (ValueError, SyntaxError) as error:
            raise InvalidInput(f"{self.rows.at(number)} has {name} that cannot be read: {short(value)}.") from error

    def placed(self, number: int, context: str, begin: int | None, end: int | None, words: str) -> Span:
        """An answer where it stands. Raises InvalidInput where it does not, or where nothing says which one it is."""
        where = self.rows.at(number)
        if begin is None:
            count = context.count(words)
            if count != 1:
                problem = "is not in" if not count else f"stands {count} times in"
                raise InvalidInput(
                    f"{where}: the answer {short(words)} {problem} the context {short(context)}. Say where it begins: "
                    "answer_start, in characters."
                )
            return context.index(words), words
        seen = context[begin : begin + len(words) if end is None else end] if begin >= 0 else ""
        if seen == words or (end is not None and seen and copied(words, seen)):
            return begin, seen
        place = context.find(words)
        hint = f"it stands at {place}" if place >= 0 else "the context does not hold it"
        raise InvalidInput(
            f"{where}: the answer {short(words)} is not in the context at character {begin}, where {short(seen)} "
            f"stands; {hint}. The context begins {short(context)}."
        )


def copied(words: str, seen: str) -> bool:
    """Whether words are a passage's, but for white space, punctuation and what stood in brackets: SubjQA's copies."""
    rest = iter(seen)
    return all(letter in rest for letter in words if letter.isalnum())


def prepare(source: Any, tokenizer: Tokenizer, options: Options, *, answers: bool = True) -> Features:
    """Features with `input_ids`, `start_positions` and `end_positions`: the first answer's first and last token.

    A window without the whole answer has both at its [CLS] (at 0 where there is none). `extras` has `window`, the
    number of an example among those of its row: `windows` gives the encoding again for evaluation.

    Args:
        answers: whether there must be a column of them; without one there are no positions.

    Raises:
        InvalidInput: columns that are not there, an answer that is not where it shall be, with its row.
    """
    questions = Questions.of(source, options, answers=answers)
    rows, side = questions.rows, context_side(tokenizer)
    places = ("start_positions", "end_positions") if questions.answers is not None else ()
    builder = Builder({"input_ids": "int32", **typed(tokenizer)}, dict.fromkeys(places, "int64"), {"window": "int32"})
    without = 0
    for begin, chunk in rows.chunks(CHUNK // 4):
        asked = [questions.read(number, row) for number, row in enumerate(chunk, begin)]
        made = windows(asked, tokenizer, options, rows, range(begin, begin + len(chunk)))
        for number, question, own in zip(range(begin, begin + len(chunk)), asked, made, strict=True):
            hit = False
            for window, one in enumerate(own):
                found = tokens_of(one, question.answers[0], side) if question.answers else None
                hit |= found is not None
                first, last = found or (null(one.ids, tokenizer),) * 2
                builder.add(number, input_ids=one.ids, token_type_ids=one.type_ids, start_positions=first,
                            end_positions=last, window=window)  # fmt: skip
            without += bool(question.answers) and not hit
    notes = told(without, len(rows), "answers fit into no window; these questions count as without an answer.")
    q = questions
    used = taken(rows, [q.question, q.context, q.answers, q.start, q.id], options)
    return builder.done(rows, notes=notes + used.notes, **used.told)


def windows(
    questions: Sequence[Question], tokenizer: Tokenizer, options: Options, rows: Rows, numbers: Sequence[int]
) -> list[list[Any]]:
    """The encodings of each question's windows.

    Args:
        numbers: of the questions' rows, for messages.

    Raises:
        InvalidInput: a stride that leaves no new token, or a question that leaves no room for its context.
    """
    length, side = options.limit(tokenizer, WINDOW), context_side(tokenizer)
    if options.stride is not None and not 0 <= options.stride < length:
        raise InvalidInput(f"stride = {options.stride} must be smaller than max_length = {length}, and not negative.")
    framed = tokenizer.num_special_tokens_to_add(True)
    sizes = [len(ids) for ids in tokenizer.encode_ids([q.question for q in questions], special=False)]
    strides: dict[int, list[int]] = {}
    for place, size in enumerate(sizes):
        strides.setdefault(stride_of(options, length, length - framed - size, rows, numbers[place]), []).append(place)
    found: list[list[Any]] = [[] for _ in questions]
    for stride, places in strides.items():
        pairs = [(questions[p].question, questions[p].context)[:: 1 if side else -1] for p in places]
        settings = limits(tokenizer, length, "only_second" if side else "only_first", stride) | {"direction": "right"}
        made = encoded(tokenizer, pairs, rows, [numbers[p] for p in places], settings)
        for place, one in zip(places, made, strict=True):
            found[place] = [one, *one.overflowing]
    return found


def stride_of(options: Options, length: int, room: int, rows: Rows, number: int) -> int:
    """Tokens that the windows of a question share, which leaves `room` for its context. Raises InvalidInput."""
    if room < 2 or (options.stride is not None and options.stride >= room):
        stride = "" if options.stride is None else f" and stride = {options.stride}"
        raise InvalidInput(
            f"{rows.at(number)} has a question that leaves {max(room, 0)} tokens for its context, with max_length = "
            f"{length}{stride}. Shorten it, or say a larger max_length{' or a smaller stride' if stride else ''}."
        )
    return min(length // 2, STRIDE, room // 2) if options.stride is None else options.stride


def context_side(tokenizer: Tokenizer) -> int:
    """Which text of the pair is the context: the second, or the first where a model reads from the right."""
    return int(tokenizer.padding_side == "right")


def null(ids: Sequence[int], tokenizer: Tokenizer) -> int:
    """The token that stands for no answer."""
    return ids.index(tokenizer.cls_token_id) if tokenizer.cls_token_id in ids else 0


def tokens_of(window: Any, answer: Span, side: int) -> tuple[int, int] | None:
    """(first, last) token of an answer in a window that holds it whole, None in any other."""
    begin, end = answer[0], answer[0] + len(answer[1])
    read = enumerate(zip(window.sequence_ids, window.offsets, strict=True))
    spans = [(place, first, last) for place, (text, (first, last)) in read if text == side and first < last]
    touched = [place for place, first, last in spans if last > begin and first < end]
    if not touched or spans[0][1] > begin or spans[-1][2] < end:
        return None
    return touched[0], touched[-1]
