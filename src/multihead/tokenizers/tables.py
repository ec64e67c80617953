"""TAPAS' tokenizer: a question and a table, with seven types of each token (Herzig et al., 2020, arXiv:2004.02349)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidInput, TextTooLong, UnsupportedOption
from .encodings import Encodings, to_tensors
from .table_numbers import column_values, ranks, relations, values_of
from .tokenizer import Tokenizer

KINDS = 7  # segment, column, row, earlier answer, rank, rank from the end, relations to the question's numbers
FIT = "drop_rows_to_fit"
NOTHING = frozenset(("n/a", "?", "nan"))
OPTIONS = ("padding", "truncation", "max_length", "return_tensors", "return_token_type_ids", "return_attention_mask")


@dataclass(frozen=True)
class TableTokens:
    """Ids of a question and a table, and the seven types of each."""

    ids: list[int]
    types: list[list[int]]


class TableTokenizer(Tokenizer):
    """Tokenizer of questions about tables; the arguments are those of `TokenizerCore`."""

    def __call__(self, table: Any = None, queries: Any = None, **options: Any) -> Encodings:  # type: ignore[override]
        """Encode a question, or a list of questions, about a table: a dict of columns of texts, or a data frame.

        Args:
            options: padding (True, "longest" or "max_length"), truncation (True or "drop_rows_to_fit" leaves out rows,
                and then ends of cells), max_length, return_tensors, return_token_type_ids, return_attention_mask.

        Raises:
            InvalidInput: what is no table. UnsupportedOption: another option. TextTooLong: too long for max_length.
        """
        if isinstance(table, str) and queries is None:  # as other tokenizers are called
            return super().__call__(table, **options)
        queries = options.pop("query", queries)
        for name in options:
            if name not in OPTIONS:
                raise UnsupportedOption(f"{name!r} is no option for tables; options: {', '.join(OPTIONS)}.")
        columns, rows = cells_of(table)
        asked = list(queries) if isinstance(queries, (list, tuple)) else [queries]
        if not asked or not all(isinstance(query, str) for query in asked):
            raise InvalidInput(f"A table is asked by a text or a list of texts, not {queries!r}.")
        length, truncation = options.get("max_length"), options.get("truncation") in (True, FIT)
        found = [self.encode_table(columns, rows, query, max_length=length, fit=truncation) for query in asked]
        return self._padded(found, batched=isinstance(queries, (list, tuple)), **options)

    def encode_table(
        self, columns: Sequence[str], rows: Sequence[Sequence[str]], query: str, *, max_length: int | None, fit: bool
    ) -> TableTokens:
        """Encode one question. `fit`: leaves out what is too long for `max_length`, by default the model's.

        Raises:
            InvalidInput: more rows or columns than there are numbers. TextTooLong: more tokens than `max_length`.
        """
        most = self.model_max_length if max_length is None else max_length
        limits = ("max_column_id", "max_row_id")
        last_column, last_row = (self.options.get(name) or self.model_max_length for name in limits)
        if len(columns) >= last_column or (len(rows) >= last_row and not fit):
            raise InvalidInput(f"A table of {len(rows)} rows and {len(columns)} columns is too large for this model.")
        asked = self.pieces(query)
        bounds = (self.options.get("min_question_length"), self.options.get("max_question_length"))
        if (bounds[0] is not None and len(asked) < bounds[0]) or (bounds[1] is not None and len(asked) > bounds[1]):
            query, asked = "", []  # as the class skips them
        strip = bool(self.options.get("strip_column_names", False))
        heads = [[] if strip else self.pieces(name) for name in columns]
        table = [heads, *([self.pieces(cell) for cell in row] for row in rows)]
        count = min(len(rows), last_row - 1)
        longest = max((len(cell) for row in table for cell in row), default=0)
        if fit:
            count, longest = self._fitting(table, count, most - len(asked) - 2, longest)
        tokens = list(self._tokens(table, count, longest))
        ids = self.convert_tokens_to_ids([self.cls_token, *asked, self.sep_token, *(token for token, _, _ in tokens)])
        if max_length is not None and len(ids) > max_length:
            raise TextTooLong(f"The question and the table have {len(ids)} tokens; max_length is {max_length}.")
        lead = [[0] * KINDS for _ in range(len(asked) + 2)]
        return TableTokens(ids, lead + self._types(tokens, columns, rows, query))

    def pieces(self, text: str) -> list[str]:
        """Return the tokens of a cell or of a question; a text without a letter or number has one of its own."""
        if not text:
            return []
        plain = text.lower().strip()
        if plain in NOTHING or not re.sub(r"[^\w\d]+", " ", plain).replace("_", " ").strip():
            return [self.more[0] if self.more else "[EMPTY]"]
        return self.tokenize(text)

    def _fitting(self, table: list[list[list[str]]], count: int, room: int, longest: int) -> tuple[int, int]:
        """Return how many rows fit, and how many tokens of each cell."""
        trim = int(self.options.get("cell_trim_length", -1))
        longest = min(longest, trim) if trim >= 0 else longest
        while count >= 1:
            kept = next(
                (n for n in range(longest + 1) if sum(1 for _ in self._tokens(table, count, n + 1)) > room), longest
            )
            if kept == longest or (trim < 0 and kept > 0):
                return count, kept or 1
            count -= 1
        return count, 1

    def _tokens(self, table: list[list[list[str]]], count: int, longest: int) -> Iterator[tuple[str, int, int]]:
        """Yield (token, column, row) of the first `count` rows; a cell's words begin within `longest` tokens."""
        for row, cells in enumerate(table[: count + 1]):
            for column, cell in enumerate(cells, 1):
                begin = 0
                for number, token in enumerate(cell):
                    begin = begin if token.startswith("##") else number
                    if begin < longest:
                        yield token, column, row

    def _types(
        self, tokens: list[tuple[str, int, int]], columns: Sequence[str], rows: Sequence[Sequence[str]], query: str
    ) -> list[list[int]]:
        asked = values_of(query)
        places: dict[tuple[int, int], tuple[int, int]] = {}
        compared: dict[tuple[int, int], int] = {}
        for column in range(len(columns)):
            values = column_values([row[column] for row in rows])
            places |= {(column + 1, row + 1): each for row, each in ranks(values).items()}
            compared |= {(column + 1, row + 1): each for row, each in relations(asked, values).items()}
        return [
            [1, column, row, 0, *places.get((column, row), (0, 0)), compared.get((column, row), 0)]
            for _, column, row in tokens
        ]

    def _padded(self, found: list[TableTokens], *, batched: bool, **options: Any) -> Encodings:
        padding, tensors = options.get("padding", False), options.get("return_tensors")
        lengths = [len(each.ids) for each in found]
        whole = options.get("max_length") or self.model_max_length
        size = whole if padding == "max_length" else max(lengths) if padding in (True, "longest") else 0

        def pad(row: list[Any], value: Any) -> list[Any]:
            rest = [value] * max(size - len(row), 0)
            return rest + row if self.padding_side == "left" else row + rest

        data: dict[str, Any] = {"input_ids": [pad(each.ids, self.pad_token_id or 0) for each in found]}
        if options.get("return_attention_mask") is not False:
            data["attention_mask"] = [pad([1] * len(each.ids), 0) for each in found]
        if options.get("return_token_type_ids") is not False:
            data["token_type_ids"] = [pad(each.types, [0] * KINDS) for each in found]
        if tensors is not None:
            return Encodings(to_tensors(data, tensors), [])
        return Encodings(data if batched else {name: rows[0] for name, rows in data.items()}, [])


def cells_of(table: Any) -> tuple[list[str], list[list[str]]]:
    """Return the names of columns and the rows of a table. Raises InvalidInput."""
    if hasattr(table, "to_dict") and hasattr(table, "columns"):  # pandas
        table = {name: table[name].tolist() for name in table.columns}
    if not isinstance(table, Mapping) or len({len(cells) for cells in table.values()}) > 1:
        raise InvalidInput("A table is a dict of columns of one length, or a data frame.")
    rows = [list(row) for row in zip(*table.values(), strict=True)]
    if not all(isinstance(text, str) for row in [list(table), *rows] for text in row):
        raise InvalidInput("Names of columns and cells of a table are texts: convert numbers with str.")
    return list(table), rows
