"""table-question-answering: questions about a table.

A sentence encoder relates the words of a question to columns; the answer is the result of a query, which is computed. A
language model reads the rows that the question names. An encoder-decoder reads the whole table in the format of TAPEX
(Liu et al., 2021, arXiv:2107.07653).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ...errors import InvalidInput
from ..answers import WithNotices
from ..base import Pipeline, PipelineOptions, text_of
from ..encoders import AUTO, EncoderSlot
from ..generation_base import GenerationOptions, SingleLinePipeline, Text2TextPipeline, fill_prompt
from ..similarity import EmbeddingPipeline
from ..streaming_batcher import ModelInput, Preprocessed
from .question import TableAnswer, TableQuestion

ROWS = 24  # rows of a table that a language model reads at most


@dataclass(frozen=True)
class TableQuery:
    """A question and its table; every cell is a string."""

    query: str
    columns: list[str]
    rows: list[list[str]]


@dataclass(frozen=True, kw_only=True)
class TableQuestionOptions(PipelineOptions):
    """Options of table-question-answering by a sentence encoder.

    Args:
        return_query: adds the "query" that was computed, as text.
    """

    return_query: bool = False


@dataclass(frozen=True, kw_only=True)
class PromptedTableOptions(GenerationOptions):
    """Options of table-question-answering by a language model.

    Args:
        answer_by: "query" computes the answer. "model" lets the model read the rows that the question names; it is the
            default where a `prompt` is given.
        retriever: the sentence encoder that relates questions to columns, or its name. "auto" is the default model of
            sentence-similarity; None compares words alone.
        return_query: adds the "query" that was computed, as text.
    """

    answer_by: str | None = None
    retriever: Any = AUTO
    return_query: bool = False

    def check(self) -> None:
        super().check()
        if self.answer_by not in (None, "query", "model"):
            raise InvalidInput(f'answer_by is "query" or "model", not {self.answer_by!r}.')
        if self.answer_by == "query" and self.prompt is not None:
            raise InvalidInput('answer_by="query" reads no prompt. Leave one of the two out.')

    @property
    def generates(self) -> bool:
        """Return whether the language model writes the answers."""
        return self.answer_by == "model" or self.prompt is not None


class TableQuestionPipeline(Pipeline):
    """Base of all ways to answer: `{"answer": ...}` for `{"table": ..., "query": ...}`.

    A table is a dict of columns, a list of dicts, or a data frame. A list of queries returns as many answers.
    """

    def __call__(self, table: Any = None, query: Any = None, **options: Any) -> Any:  # type: ignore[override]
        """Return the answer or a list of answers. Raises InvalidInput if there is no table or no question."""
        if query is not None or not isinstance(table, (Mapping, list, tuple)):
            table = {"table": table, "query": query}
        if isinstance(table, Mapping) and isinstance(table.get("query"), (list, tuple)):
            table = [{"table": table.get("table"), "query": query} for query in table["query"]]
        return super().__call__(table, **options)

    def validate(self, item: Any, o: Any) -> Any:
        if not isinstance(item, Mapping) or item.get("table") is None:
            raise InvalidInput('must be {"table": {column: [cells]}, "query": "..."}.')
        if not item.get("query"):
            raise InvalidInput("must have a query, which is a string and not empty.")
        columns, rows = read_table(item["table"])
        return TableQuery(text_of(item["query"], "query"), columns, rows)

    def format_list(self, answers: list[Any], o: Any) -> Any:
        return answers[0] if len(answers) == 1 else answers


class TableQuestionAnswering(TableQuestionPipeline, Text2TextPipeline):
    """Answers with an encoder-decoder trained on tables."""

    def preprocess(self, items: Sequence[TableQuery], o: Any) -> list[Preprocessed]:
        texts = [flatten_table(table) for table in items]
        lower = self.tokenizer.options.get("do_lower_case", True)
        return self.encode_sources([text.lower() if lower else text for text in texts], o)

    def postprocess(
        self, item: TableQuery, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: Any
    ) -> dict[str, Any]:
        return {"answer": self.decode(outputs[0][0], o).strip()}


class QueriedTable(TableQuestionPipeline):
    """Base of pipelines whose answers are results of queries: `{"answer", "coordinates", "cells", "aggregator"}`.

    What the table does not answer has the answer "" and a notice that says why.
    """

    def validate(self, item: Any, o: Any) -> TableQuestion:
        table = super().validate(item, o)
        return TableQuestion(table.query, table.columns, table.rows)


class EncodedTableQuestions(QueriedTable, EmbeddingPipeline):
    """Answers with queries whose columns a sentence encoder finds."""

    Options: ClassVar[type[PipelineOptions]] = TableQuestionOptions

    def preprocess(self, items: Sequence[TableQuestion], o: TableQuestionOptions) -> list[Preprocessed]:
        return [self.encode_sentences(item.texts, truncation=True) for item in items]

    def postprocess(
        self, item: TableQuestion, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: TableQuestionOptions
    ) -> Any:
        return answer_record(item.answer(outputs), o.return_query)


class PromptedTableQuestionAnswering(QueriedTable, SingleLinePipeline):
    """Answers with a language model, which reads the rows that a question names; computes what is computed of rows."""

    Options: ClassVar[type[PipelineOptions]] = PromptedTableOptions
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

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.encoder = EncoderSlot()
        super().__init__(*arguments, **options)

    def preprocess(self, items: Sequence[TableQuestion], o: PromptedTableOptions) -> list[Preprocessed]:
        """Return the prompt of each item with the rows that its question names, or no model input for a query."""
        if not o.generates:
            retriever = self.encoder.get(o.retriever, self.device)
            for item in items:
                item.embed(retriever)
            return [[] for _ in items]
        config, prompt = self.full_config(o), o.prompt or self.prompt_text
        rows = [[item.rows[n] for n in item.named_rows()[:ROWS]] for item in items]
        prompts = [
            fill_prompt(prompt, table=markdown_table(item.names, own), query=item.query)
            for item, own in zip(items, rows, strict=True)
        ]
        return [self.make_input(ids, config) for ids in self.tokenizer.encode_ids(prompts, controls=False)]

    def forward(self, inputs: Sequence[ModelInput], o: PromptedTableOptions) -> list[Any]:
        return super().forward(inputs, o) if inputs else []

    def postprocess(
        self, item: TableQuestion, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: PromptedTableOptions
    ) -> Any:
        if not o.generates:
            return answer_record(item.answer(item.embeddings), o.return_query)
        text = self.decode(outputs[0][0], o).strip()
        notices = []
        if len(item.named_rows()) > ROWS:
            notices.append(f"The model read {ROWS} of {len(item.named_rows())} rows.")
        if not any(text.casefold() == cell.strip().casefold() for row in item.rows for cell in row):
            notices.append("The answer is no cell of the table; the model wrote it.")
        return WithNotices({"answer": text}, notices) if notices else {"answer": text}


def answer_record(answer: TableAnswer, return_query: bool) -> Any:
    """Return an answer with its notices, and with the text of its query if that is wanted."""
    record = answer.record() | ({"query": answer.text} if return_query else {})
    return WithNotices(record, answer.notices) if answer.notices else record


def read_table(table: Any) -> tuple[list[str], list[list[str]]]:
    """Return the names of columns and the rows of cells. Raises InvalidInput."""
    if hasattr(table, "to_dict") and hasattr(table, "columns"):  # pandas
        if len({str(name) for name in table.columns}) < len(table.columns):
            raise InvalidInput("has a table with two columns of one name. Give each column its own.")
        table = {str(name): table[name].tolist() for name in table.columns}
    elif hasattr(table, "to_pydict"):  # Arrow
        table = table.to_pydict()
    if isinstance(table, (list, tuple)) and table and all(isinstance(row, Mapping) for row in table):
        names = dict.fromkeys(name for row in table for name in row)
        table = {name: [row.get(name, "") for row in table] for name in names}
    if not isinstance(table, Mapping) or not table or not all(isinstance(c, (list, tuple)) for c in table.values()):
        raise InvalidInput("must have a table: a dict of columns, a list of dicts, or a data frame.")
    if len({len(cells) for cells in table.values()}) != 1:
        raise InvalidInput("has a table whose columns are not of one length.")
    rows = [[text_of_cell(cell) for cell in row] for row in zip(*table.values(), strict=True)]
    if not rows:
        raise InvalidInput("has a table without rows.")
    return [str(name) for name in table], rows


def text_of_cell(cell: Any) -> str:
    """Return the text of a cell; "" for None and for numbers that are none (NaN)."""
    return "" if cell is None or cell != cell else str(cell)


def flatten_table(table: TableQuery) -> str:
    """Return the question and the table in the format of TAPEX."""
    rows = [f"row {number} : {' | '.join(cells)}" for number, cells in enumerate(table.rows, 1)]
    return " ".join([table.query, f"col : {' | '.join(table.columns)}", *rows])


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
