"""A question with its table: the texts whose embeddings it needs, and its answer from their similarities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .cells import Column, decimal_mark, is_empty, read_column
from .columns import Similarity
from .mentions import CellMention, Vocabulary
from .parser import Parse, Parser
from .query import NOTHING, Condition, Query, QueryResult, execute, matching_rows
from .reading import Reading

if TYPE_CHECKING:
    from ...sentences.encoder import SentenceEncoder

NEAR = 0.6  # similarity from which a phrase means a cell that it does not name
CELLS = 256  # different texts of cells whose embeddings are computed at most
TABLES = 8  # tables that are kept read
NEAREST = "The question names no column. The answer is from {!r}, the nearest to {!r}."
SAME, MANY = 0.35, 2  # affinity that accounts for a word; words without account that make a question unanswered


@dataclass(frozen=True)
class TableAnswer:
    """Result of a question.

    Attributes:
        query: that was computed; None if there is none. notices: what a user must know.
    """

    result: QueryResult
    notices: tuple[str, ...]
    query: Query | None
    text: str

    def record(self) -> dict[str, Any]:
        """Return the answer with the reference's keys."""
        found = self.result
        return {
            "answer": found.answer,
            "coordinates": found.coordinates,
            "cells": found.cells,
            "aggregator": found.aggregator,
        }


@lru_cache(maxsize=TABLES)
def open_table(names: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> tuple[list[Column], Vocabulary]:
    """Return the typed columns of a table and the words of its cells."""
    decimal = decimal_mark(cell for row in rows for cell in row)
    columns = [read_column(name, cells, decimal) for name, cells in zip(names, zip(*rows, strict=True), strict=True)]
    return columns, Vocabulary(columns)


class TableQuestion:
    """A question and its table, read for a query; every cell is a string.

    Attributes:
        texts: whose embeddings `answer` needs: phrases of the question, then names of columns, then
            cells if the question names none.
    """

    def __init__(self, query: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self.query, self.names, self.rows = query, list(names), rows
        self.columns, self.vocabulary = open_table(tuple(names), tuple(map(tuple, rows)))
        self.reading = Reading(query, self.columns, self.vocabulary)
        self.embeddings: Sequence[Tensor] | None = None

    @cached_property
    def phrases(self) -> list[str]:
        return self.reading.phrases()

    @cached_property
    def cells(self) -> list[tuple[int, str]]:
        """Column and text of the cells that a phrase may mean without naming them; empty if the question names some."""
        if self.reading.cells or self.reading.numbers or self.reading.unknown:
            return []
        texts = {
            (number, cell): None
            for number, column in enumerate(self.columns) if column.kind == "text"
            for cell in column.cells if not is_empty(cell)
        }  # fmt: skip
        return list(texts) if len(texts) <= CELLS else []

    @cached_property
    def texts(self) -> list[str]:
        names = [" ".join(column.words) or "column" for column in self.columns]
        return [*self.phrases, *names, *(text for _, text in self.cells)]

    def embed(self, encoder: SentenceEncoder | None) -> None:
        """Compute the embeddings that `answer` needs; none without an encoder."""
        self.embeddings = None if encoder is None else list(encoder.encode(self.texts, convert_to_tensor=True).cpu())

    def named_rows(self) -> list[int]:
        """Return the rows that the question names; all if it names none."""
        rows = [each.rows for each in Parser(self.reading, self.columns, lambda phrase, column: 0.0).choose_mentions()]
        common = frozenset.intersection(*rows) if rows else frozenset()
        return sorted(common or frozenset().union(*rows)) or list(range(len(self.rows)))

    def answer(self, embeddings: Sequence[Tensor] | None) -> TableAnswer:
        """Return the answer.

        Args:
            embeddings: of `texts`, (width,) each. None compares words alone.
        """
        similar, cells = self.similarities(embeddings)
        parser = Parser(self.reading, self.columns, similar)
        parse = parser.parse()
        if parse.names_nothing and self.add_near_cell(cells, similar):
            parser = Parser(self.reading, self.columns, similar)
            parse = parser.parse()
        if parse.query is not None:
            parse = self.check(parse, parser.unexplained(parse.query, SAME))
        if parse.query is None:
            return TableAnswer(NOTHING, (parse.reason,), None, "")
        result = execute(parse.query, self.columns)
        notices = [*self.reading.guessed, *result.notices, *([parse.reason] if parse.reason else [])]
        notices += self.doubts(parse.query)
        column, words = parser.nearest_column(parse.query)
        if result.answer and column >= 0:
            notices.append(NEAREST.format(self.names[column], words or self.query))
        if not result.answer:
            notices.append(self.nothing(parse.query))
        return TableAnswer(result, tuple(notices), parse.query, self.describe(parse.query))

    def similarities(self, embeddings: Sequence[Tensor] | None) -> tuple[Similarity, list[list[float]]]:
        """Return the function that gives the cosine of a phrase and a column, and cosines (phrases, cells)."""
        if embeddings is None or not self.phrases:
            return lambda phrase, column: 0.0, []
        vectors = torch.nn.functional.normalize(torch.stack(list(embeddings)).float(), dim=-1)
        count, width = len(self.phrases), len(self.columns)
        table = (vectors[:count] @ vectors[count:].T).tolist()
        place = {phrase: number for number, phrase in enumerate(self.phrases)}
        cosine: Similarity = lambda phrase, column: table[place[phrase]][column] if phrase in place else 0.0  # noqa: E731
        return cosine, [row[width:] for row in table]

    def add_near_cell(self, table: Sequence[Sequence[float]], similar: Similarity) -> bool:
        """Add the cell that a phrase means without naming it, if one is near enough. Returns whether one is."""
        columns = range(len(self.columns))
        best = max(
            (
                (value, p, c)
                for p, row in enumerate(table)
                for c, value in enumerate(row)
                if value >= NEAR and value > max(similar(self.phrases[p], column) for column in columns)
            ),
            default=None,
        )
        if best is None:
            return False
        words, (column, text) = self.phrases[best[1]].split(), self.cells[best[2]]
        starts = [n for n in range(len(self.reading.words)) if self.reading.words[n : n + len(words)] == words]
        rows = frozenset(row for row, cell in enumerate(self.columns[column].cells) if cell == text)
        if starts:
            self.reading.add(CellMention((starts[0], starts[0] + len(words)), column, rows, best[0]), text)
        return bool(starts)

    def check(self, parse: Parse, words: Sequence[str]) -> Parse:
        """Return a parse without query if too much of the question is not in it; a reason if one word is not."""
        if parse.query is None or not words:
            return parse
        listed = ", ".join(map(repr, words))
        if len(words) >= MANY or (parse.query.aggregate in ("sum", "average") and not parse.named):
            return Parse(None, f"The question is not understood: nothing in the table accounts for {listed}.")
        return replace(
            parse,
            reason=f"{parse.reason} The answer does not depend on {listed}, which is no column and no cell.".strip(),
        )

    def doubts(self, query: Query) -> list[str]:
        """Return what a user must know of the values that a query computes with or compares."""
        computed = [c.column for c in query.where if c.operator != "in"]
        if query.aggregate in ("sum", "average"):
            computed.append(query.select)
        if query.by >= 0:
            computed.append(query.by)
        return [text for number in dict.fromkeys(computed) if (text := self.columns[number].doubt)]

    def nothing(self, query: Query) -> str:
        """Return why a query has an empty answer."""
        if query.aggregate in ("difference", "more", "less") or matching_rows(query, self.columns):
            return f"The cells of {self.names[query.select]!r} that the question asks for are empty."
        return "No row fulfils the conditions of the question."

    def describe(self, query: Query) -> str:
        """Return a query as text."""
        where = [self.describe_condition(c) for c in query.where]
        what = self.names[query.select]
        by = self.names[query.by] if query.by >= 0 else ""
        head = {
            "none": what, "max": f"{what} with the largest {by}", "min": f"{what} with the smallest {by}",
            "count": "count of rows", "difference": f"difference of {by}", "more": f"whether {by} is more",
            "less": f"whether {by} is less",
        }.get(query.aggregate, f"{query.aggregate} of {what}")  # fmt: skip
        return f"{head} where {' and '.join(where)}" if where else head

    def describe_condition(self, condition: Condition) -> str:
        """Return a condition as text, such as "Age > 40"."""
        own, name = self.columns[condition.column], self.names[condition.column]
        if condition.operator == "in":
            return f"{name} is {' or '.join(dict.fromkeys(own.cells[row] for row in sorted(condition.rows)))}"
        if own.kind == "date":
            return f"{name} {condition.operator} {date.fromordinal(int(condition.value)).isoformat()}"
        return f"{name} {condition.operator} {f'{condition.value:,.6f}'.rstrip('0').rstrip('.')}"
