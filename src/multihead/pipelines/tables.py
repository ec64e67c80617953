"""table-question-answering: questions about a table, which the model reads as text.

An encoder-decoder reads TAPEX's form (Liu et al., 2021, arXiv:2107.07653), a language model a Markdown table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import InvalidInput, MultiheadError
from .base import Options, text_of
from .streaming_batcher import Piece
from .writing import LineSpeaker, Rewriter, Writer, Writing, filled


@dataclass(frozen=True)
class Table:
    """A question and what it is about; every cell a string."""

    query: str
    columns: list[str]
    rows: list[list[str]]


class TableQuestions(Writer):
    """What both ways of answering share: `{"answer": ...}` for `{"table": ..., "query": ...}`.

    A table is a dict of columns, a list of dicts, or a data frame. With a list of queries, so many answers.
    """

    Options: ClassVar[type[Options]] = Writing

    def __call__(self, table: Any = None, query: Any = None, **options: Any) -> Any:  # type: ignore[override]
        """The answer, or a list of them. Raises InvalidInput for what is no table or no question."""
        if query is not None or not isinstance(table, (Mapping, list, tuple)):
            table = {"table": table, "query": query}
        if isinstance(table, Mapping) and isinstance(table.get("query"), (list, tuple)):
            table = [{"table": table.get("table"), "query": query} for query in table["query"]]
        return super().__call__(table, **options)

    def accept(self, item: Any, o: Any) -> Table:
        if not isinstance(item, Mapping) or item.get("table") is None:
            raise InvalidInput('must be {"table": {column: [cells]}, "query": "..."}.')
        if not item.get("query"):
            raise InvalidInput("must have a query, which is a string and not empty.")
        columns, rows = read_table(item["table"])
        return Table(text_of(item["query"], "query"), columns, rows)

    def finish(self, item: Table, pieces: Sequence[Piece], found: Sequence[Any], o: Any) -> dict[str, Any]:
        return {"answer": self.decoded(found[0][0], o).strip()}

    def together(self, found: list[Any], o: Any) -> Any:
        return found[0] if len(found) == 1 else found


class TableQuestionAnswering(TableQuestions, Rewriter):
    """Answers with an encoder-decoder trained on tables."""

    def pieces(self, items: Sequence[Table], o: Any) -> list[list[Piece] | MultiheadError]:
        texts = [flattened(table) for table in items]
        lower = self.tokenizer.options.get("do_lower_case", True)
        return self.source([text.lower() if lower else text for text in texts], o)


class PromptedTableQuestionAnswering(TableQuestions, LineSpeaker):
    """Answers with a language model, after worked examples."""

    prompt_text = (
        "| city | country | founded |\n| --- | --- | --- |\n| Lyon | France | 43 BC |\n| Potsdam | Germany | 993 |\n"
        "Question: When was Potsdam founded?\nAnswer: 993\n"
        "Question: In which country is Lyon?\nAnswer: France\n\n"
        "| player | team | goals |\n| --- | --- | --- |\n| Ana | Reds | 12 |\n| Eve | Blues | 7 |\n"
        "Question: How many goals did Eve score?\nAnswer: 7\n"
        "Question: Who plays for the Reds?\nAnswer: Ana\n\n"
        "{table}\nQuestion: {query}\nAnswer:"
    )
    new_tokens = 32

    def pieces(self, items: Sequence[Table], o: Any) -> list[list[Piece] | MultiheadError]:
        config, prompt = self.settled(o), o.prompt or self.prompt_text
        asked = [filled(prompt, table=markdown(table), query=table.query) for table in items]
        return [self.fits(ids, config) or [Piece(ids)] for ids in self.tokenizer.encode_ids(asked)]


def read_table(table: Any) -> tuple[list[str], list[list[str]]]:
    """Columns' names and rows of cells. Raises InvalidInput."""
    if hasattr(table, "to_dict") and hasattr(table, "columns"):  # pandas
        table = {str(name): table[name].tolist() for name in table.columns}
    elif hasattr(table, "to_pydict"):  # Arrow
        table = table.to_pydict()
    if isinstance(table, (list, tuple)) and table and all(isinstance(row, Mapping) for row in table):
        table = {name: [row.get(name, "") for row in table] for name in table[0]}
    if not isinstance(table, Mapping) or not table or not all(isinstance(c, (list, tuple)) for c in table.values()):
        raise InvalidInput("must have a table: a dict of columns, a list of dicts, or a data frame.")
    if len({len(cells) for cells in table.values()}) != 1:
        raise InvalidInput("has a table whose columns are not of one length.")
    rows = [[str(cell) for cell in row] for row in zip(*table.values(), strict=True)]
    if not rows:
        raise InvalidInput("has a table without rows.")
    return [str(name) for name in table], rows


def flattened(table: Table) -> str:
    """The question and the table as TAPEX reads them."""
    rows = [f"row {number} : {' | '.join(cells)}" for number, cells in enumerate(table.rows, 1)]
    return " ".join([table.query, f"col : {' | '.join(table.columns)}", *rows])


def markdown(table: Table) -> str:
    """The table in Markdown."""
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
