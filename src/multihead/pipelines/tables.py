"""table-question-answering: questions about a table, which the model reads as text.

An encoder-decoder reads the format of TAPEX (Liu et al., 2021, arXiv:2107.07653), a language model a Markdown table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import InvalidInput
from .base import PipelineOptions, text_of
from .generation_base import GenerationOptions, GenerationPipeline, SingleLinePipeline, Text2TextPipeline, fill_prompt
from .streaming_batcher import ModelInput, Preprocessed


@dataclass(frozen=True)
class TableQuery:
    """A question and its table; every cell is a string."""

    query: str
    columns: list[str]
    rows: list[list[str]]


class TableQuestionPipeline(GenerationPipeline):
    """Base of both ways to answer: `{"answer": ...}` for `{"table": ..., "query": ...}`.

    A table is a dict of columns, a list of dicts, or a data frame. A list of queries returns as many answers.
    """

    Options: ClassVar[type[PipelineOptions]] = GenerationOptions

    def __call__(self, table: Any = None, query: Any = None, **options: Any) -> Any:  # type: ignore[override]
        """Return the answer or a list of answers. Raises InvalidInput if there is no table or no question."""
        if query is not None or not isinstance(table, (Mapping, list, tuple)):
            table = {"table": table, "query": query}
        if isinstance(table, Mapping) and isinstance(table.get("query"), (list, tuple)):
            table = [{"table": table.get("table"), "query": query} for query in table["query"]]
        return super().__call__(table, **options)

    def validate(self, item: Any, o: Any) -> TableQuery:
        if not isinstance(item, Mapping) or item.get("table") is None:
            raise InvalidInput('must be {"table": {column: [cells]}, "query": "..."}.')
        if not item.get("query"):
            raise InvalidInput("must have a query, which is a string and not empty.")
        columns, rows = read_table(item["table"])
        return TableQuery(text_of(item["query"], "query"), columns, rows)

    def postprocess(
        self, item: TableQuery, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: Any
    ) -> dict[str, Any]:
        return {"answer": self.decode(outputs[0][0], o).strip()}

    def format_list(self, answers: list[Any], o: Any) -> Any:
        return answers[0] if len(answers) == 1 else answers


class TableQuestionAnswering(TableQuestionPipeline, Text2TextPipeline):
    """Answers with an encoder-decoder trained on tables."""

    def preprocess(self, items: Sequence[TableQuery], o: Any) -> list[Preprocessed]:
        texts = [flatten_table(table) for table in items]
        lower = self.tokenizer.options.get("do_lower_case", True)
        return self.encode_sources([text.lower() if lower else text for text in texts], o)


class PromptedTableQuestionAnswering(TableQuestionPipeline, SingleLinePipeline):
    """Answers with a language model, by a prompt with worked examples."""

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

    def preprocess(self, items: Sequence[TableQuery], o: Any) -> list[Preprocessed]:
        config, prompt = self.full_config(o), o.prompt or self.prompt_text
        prompts = [fill_prompt(prompt, table=markdown_table(table), query=table.query) for table in items]
        return [self.make_input(ids, config) for ids in self.tokenizer.encode_ids(prompts)]


def read_table(table: Any) -> tuple[list[str], list[list[str]]]:
    """Return the names of columns and the rows of cells. Raises InvalidInput."""
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


def flatten_table(table: TableQuery) -> str:
    """Return the question and the table in the format of TAPEX."""
    rows = [f"row {number} : {' | '.join(cells)}" for number, cells in enumerate(table.rows, 1)]
    return " ".join([table.query, f"col : {' | '.join(table.columns)}", *rows])


def markdown_table(table: TableQuery) -> str:
    """Return the table in Markdown."""
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
