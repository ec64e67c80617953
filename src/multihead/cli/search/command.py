"""`multihead search`: the options and the run."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...consoles import screen
from ...errors import InvalidInput, ModelNotFound, UnsupportedOption
from ..encoders import encoder_options, load_encoder
from ..text_rows import TextRow, live_windows, read_rows, sentence

if TYPE_CHECKING:
    from ...retrieval.index import Index

WINDOW = 256  # queries that are answered at once


@click.command(name="search")
@click.argument("documents", type=click.Path(path_type=Path), metavar="INDEX_OR_FILE")
@click.argument("queries", nargs=-1)
@click.option("--queries", "queries_path", type=click.Path(path_type=Path), help="A file of queries.")
@click.option("--query-column", metavar="NAME", help="The column of queries in --queries.")
@click.option("--column", metavar="NAME", help="The column of the documents' texts.")
@click.option("--id", "id_column", metavar="NAME", help="The column of ids. Default: the row's number from 0.")
@click.option("--top-k", type=click.IntRange(min=1), default=5, show_default=True, help="Documents of a query.")
@click.option("--index", "folder", type=click.Path(path_type=Path), help="Where the index of a file is kept.")
@click.option("--rebuild", is_flag=True, help="Builds the index of a file again.")
@click.option("--quantize", type=click.Choice(["int8", "binary"]), help="Keeps one byte a number, or its sign.")
@click.option(
    "--approximate", is_flag=True, help="Searches by a graph of neighbours (HNSW): for millions of documents."
)
@click.option("--hybrid", is_flag=True, help="Ranks by shared words (BM25) too.")
@click.option("--rerank", metavar="MODEL", help="A cross-encoder that scores the best documents again.")
@click.option("--candidates", type=click.IntRange(min=1), help="Documents that --rerank scores. Default: 50.")
@click.option("--highlight", is_flag=True, help="Adds the best sentence of each document to JSON lines.")
@encoder_options
@click.option("--json", "as_json", is_flag=True, help="Prints JSON lines on a terminal too.")
@click.option("--strict", is_flag=True, help="Stops at the first document or query that has no embedding.")
def command(documents: Path, queries: tuple[str, ...], queries_path: Path | None, query_column: str | None,
            column: str | None, id_column: str | None, top_k: int, folder: Path | None, rebuild: bool,
            quantize: str | None, approximate: bool, hybrid: bool, rerank: str | None, candidates: int | None,
            highlight: bool,
            model: str | None, prompt: str | None, prompt_name: str | None, truncate_dim: int | None,
            no_truncation: bool, precision: str, device: str | None, as_json: bool, strict: bool) -> None:  # fmt: skip
    """Finds the documents of INDEX_OR_FILE that fit each query best.

    The index of a file is built at the first search and kept beside it (FILE.index). It is built again when the file
    has changed. Options that are not given are those of the index. --prompt is the text before each document. The
    queries may be lines of standard input (-).

    \b
    Examples:
      multihead search docs.jsonl "how do planes fly"
      multihead search docs.csv --column body --id key --hybrid --top-k 3 "how do planes fly" "why does bread rise"
      multihead search docs.jsonl.index --queries questions.txt --json > found.jsonl
      multihead search docs.jsonl --rerank cross-encoder/ms-marco-MiniLM-L6-v2 "how do planes fly"
    """
    own = {"column": column, "id": id_column, "model": model, "prompt": prompt, "prompt_name": prompt_name,
           "truncate_dim": truncate_dim, "no_truncation": no_truncation or None, "quantize": quantize}  # fmt: skip
    given = {"--index": folder, "--rebuild": rebuild, **{f"--{name.replace('_', '-')}": own[name] for name in own}}
    if candidates is not None and rerank is None:
        raise UnsupportedOption("--candidates has no effect without --rerank.")
    items = read_queries(queries, queries_path, query_column)
    extras = {"hybrid": hybrid, "approximate": approximate}
    index = open_index(documents, own, given, extras, rebuild=rebuild, folder=folder, strict=strict,
                       loading={"precision": precision, "device": device})  # fmt: skip
    reranker = None
    if rerank is not None:
        from ...pipelines.pipeline import pipeline
        from ..precision import load_options

        reranker = pipeline("text-ranking", rerank, device=device, **load_options(precision, device))
    console = screen()
    Search(index, console.is_terminal and not as_json, highlight, strict, {
        "top_k": top_k, "exact": not approximate, "hybrid": hybrid, "rerank": reranker, "candidates": candidates,
    }).run(items)  # fmt: skip


def read_queries(texts: tuple[str, ...], path: Path | None, column: str | None) -> Iterator[list[TextRow]]:
    """Return the queries in windows. Raises InvalidInput if there are none."""
    if column is not None and path is None:
        raise UnsupportedOption("--query-column has no effect without --queries.")
    if path is None and not texts:
        raise InvalidInput('There is no query: give some, --queries FILE, or "-" for the lines of standard input.')
    rows = iter(read_rows(texts, path, column, None))
    if tuple(texts) == ("-",):
        return live_windows(rows)
    first = list(islice(rows, WINDOW))  # an error of the file comes before a model is loaded
    if not first:
        raise InvalidInput(f"{path} has no queries.")
    return iter([first, *iter(lambda: list(islice(rows, WINDOW)), [])])


def open_index(
    documents: Path, own: dict[str, Any], given: dict[str, Any], extras: dict[str, bool], *, rebuild: bool,
    folder: Path | None, strict: bool, loading: dict[str, Any],
) -> Index:  # fmt: skip
    """Load an index, or that of a file, which is built if it has to be."""
    from ...retrieval.index import Index
    from .build import Builder, Source, default_folder, is_index

    if not documents.exists():
        raise ModelNotFound(f"There is no file and no index {documents}.")
    log = screen(stderr=True)
    if is_index(documents):
        wrong = [name for name, value in given.items() if value and name not in ("--model",)]
        if wrong:
            raise UnsupportedOption(f"{wrong[0]} belongs to the index of a file, and {documents} is an index itself.")
        place, encoder = documents, None
    elif documents.is_dir():
        raise ModelNotFound(f"{documents} is a folder, and no index. Name a file of documents, or an index.")
    else:
        place = (folder or default_folder(documents)).absolute()
        source = Source(documents, place, own, extras["hybrid"])
        reason = "the index is built again" if rebuild else source.reason_to_build()
        encoder = None
        if reason is not None:
            log.print(f"Indexing {documents}: {reason}.", style="dim", soft_wrap=True)
            encoder, _ = load_encoder(own["model"], loading["precision"], loading["device"])
            Builder(source, encoder, log, loading, strict).run()
    index = Index.load(place)
    index.encoder = encoder or load_encoder(own["model"] or index.info.model, **loading)[0]
    complete_index(index, place if place != documents else None, **extras)
    return index


def complete_index(index: Index, place: Path | None, *, hybrid: bool, approximate: bool) -> None:
    """Make the weights of hybrid search and the graph of approximate search, where they are missing.

    Args:
        place: where they are kept; None keeps them for this search only.
    """
    missing = False
    if hybrid and not index.has_lexical:
        index.make_lexical()
        missing = True
    if approximate and index.graph is None:
        index.make_graph()
        missing = True
    if missing and place is not None:
        index.save(place)


@dataclass(frozen=True)
class Search:
    """Search of an index.

    Args:
        drawn: print for a terminal instead of JSON lines. highlight: find the best sentences for JSON lines too.
        options: those of `Index.search`.
    """

    index: Index
    drawn: bool
    highlight: bool
    strict: bool
    options: dict[str, Any]

    def run(self, windows: Iterable[list[TextRow]]) -> None:
        """Answer all queries. Exits with status 1 if none could be answered."""
        from ...retrieval.embedding import text_error

        answered = 0
        log = screen(stderr=True)
        for window in windows:
            for row in window:
                error = text_error(row.text)
                try:
                    if error is not None:
                        raise error
                    self.answer(row)
                    answered += 1
                except InvalidInput as problem:
                    message = f"Query {row.number} {sentence(problem).removeprefix('cannot be read: Query 0 ')}"
                    if self.strict:
                        raise InvalidInput(message) from problem
                    log.print(message, style="red", soft_wrap=True)
        if not answered:
            sys.exit(1)

    def answer(self, row: TextRow) -> None:
        """Print the results of a query."""
        from ...pipelines.batch_inference.json_rows import to_json
        from .results import best_sentences, draw_results, result_entry

        hits = self.index.search(row.text, **self.options)
        best = None
        if self.drawn or self.highlight:
            best = best_sentences(self.index, self.index.embed_queries([row.text])[0], hits)
        if self.drawn:
            draw_results(screen(), row.text, hits, best or [])
        else:
            print(to_json(result_entry(row.number, row.text, hits, best)), flush=True)
