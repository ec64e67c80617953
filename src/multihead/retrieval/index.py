"""Index of documents, searched by the similarity of embeddings."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InvalidInput, UnsupportedOption, read_errors
from ..sentences.encoder import SentenceEncoder
from ..token_batches import texts_of
from .embedding import EmbeddingOptions, embed_texts, windows
from .folder import IndexInfo, read_index, write_index
from .graph import Graph
from .lexical import LexicalIndex, fuse_ranks
from .probe import check_encoder, probe_vectors
from .rerank import Reranker, rerank_hits
from .rows import Row, check_ids, check_top_k, document_rows
from .vectors import StoredVectors, Vectors, unit_rows

Hit = dict[str, Any]  # "corpus_id", "id", "score", "text", and "fields" of a document that has more
DOCUMENT_PROMPTS = ("document", "passage", "corpus")
FUSED = 1000  # rows of each ranking that hybrid search joins, at least


class Index:
    """Documents and their vectors.

    Made by `Index.build` or `Index.load`.

    Attributes:
        vectors: stored vectors. rows: of each document "id", "text" and, if it has more, "fields".
        info: the model's name, and how documents are embedded. cut: numbers of documents whose end was not embedded.
        graph: of approximate search, if there is one.
    """

    def __init__(
        self,
        info: IndexInfo,
        vectors: StoredVectors,
        rows: Sequence[Row],
        probe: Vectors,
        encoder: SentenceEncoder | None = None,
    ) -> None:
        self.info, self.vectors, self.rows, self.probe = info, vectors, rows, probe
        self._encoder = encoder
        self._lexical: LexicalIndex | None = None
        self.graph: Graph | None = None
        self.cut: list[int] = []

    @classmethod
    def build(
        cls,
        documents: Iterable[Any],
        encoder: SentenceEncoder | str | os.PathLike[str],
        *,
        ids: Iterable[Any] | None = None,
        precision: str = "float32",
        prompt: str | None = None,
        truncation: bool = True,
        truncate_dim: int | None = None,
        batch_size: int | None = None,
        approximate: bool = False,
    ) -> Index:
        """Embed documents.

        Args:
            documents: texts, or mappings with "text", perhaps "id", and any other fields, which results repeat.
            encoder: or its name. ids: strings or whole numbers, in place of the documents' own. Default: row numbers.
            precision: of the stored vectors: float32, int8 or binary, as `quantize_embeddings` makes them.
            prompt: text before each document. Default: the encoder's prompt named "document".
            truncation: False refuses documents longer than the encoder reads; else `cut` has their numbers.
            truncate_dim: dimensions of an embedding to keep. batch_size: documents of a batch at most.
            approximate: makes the graph of approximate search too (`make_graph`).

        Raises:
            InvalidInput: no documents; one that is empty, no text, or has no embedding; an id that occurs twice.
            TextTooLong: with truncation=False. UnsupportedOption: a precision that the encoder's similarity lacks.
        """
        encoder = load_encoder(encoder)
        width = truncate_dim if truncate_dim is not None else encoder.truncate_dim
        info = IndexInfo(model_name(encoder), document_prompt(encoder, prompt), truncation, width)
        rows = list(document_rows(documents, ids, 0))
        if not rows:
            raise InvalidInput("There are no documents to build an index of.")
        check_ids(rows, set())
        made, cut = _embed(encoder, rows, info, 0, batch_size)
        vectors = StoredVectors.of(made, precision, encoder.similarity_fn_name)
        index = cls(info, vectors, rows, probe_vectors(encoder, width), encoder)
        index.cut = cut
        if approximate:
            index.make_graph()
        return index

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], encoder: SentenceEncoder | str | os.PathLike[str] | None = None
    ) -> Index:
        """Load a folder of `save`. Vectors and texts stay in files, which are mapped.

        Args:
            encoder: or its name. Default: the model that made the index, loaded at the first search.

        Raises:
            ModelNotFound, CorruptFile: the folder. InvalidInput: `encoder` gives other vectors than the index holds.
        """
        found = read_index(Path(folder))
        index = cls(found.info, found.vectors, found.rows, found.probe)
        index.graph = found.graph
        index._lexical = LexicalIndex.load(Path(folder), len(found.rows))
        if encoder is not None:
            index.encoder = load_encoder(encoder)
        return index

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write a folder, whole or not at all. Raises InvalidInput if it cannot be written or holds other files."""
        write_index(Path(folder), self.info, self.vectors, self.rows, self.probe, self._lexical, self.graph)

    def __len__(self) -> int:
        return len(self.vectors)

    def __repr__(self) -> str:
        return f"<Index of {len(self):,} documents by {self.info.model}, {self.vectors.precision}>"

    @property
    def encoder(self) -> SentenceEncoder:
        """Encoder of queries. Setting one that gives other vectors than the index holds raises InvalidInput."""
        if self._encoder is None:
            self.encoder = load_encoder(self.info.model)
        assert self._encoder is not None
        return self._encoder

    @encoder.setter
    def encoder(self, encoder: SentenceEncoder) -> None:
        check_encoder(encoder, self.probe, self.info.model, self.info.truncate_dim)
        self._encoder = encoder

    def add(self, documents: Iterable[Any], *, ids: Iterable[Any] | None = None, batch_size: int | None = None) -> None:
        """Add documents, embedded as those of `build` were. Raises as `build` does, and then adds none."""
        new = list(document_rows(documents, ids, len(self)))
        if not new:
            return
        known: set[str | int] = set()
        check_ids(self.rows, known)
        check_ids(new, known)
        made, cut = _embed(self.encoder, new, self.info, len(self), batch_size)
        self.vectors = self.vectors.with_rows(made)
        self.rows = [*self.rows, *new]
        self.cut += cut
        self._lexical = None  # its weights depend on all documents
        if self.graph is not None:
            self.graph.add(self.vectors)

    def search(
        self,
        queries: str | Iterable[str],
        top_k: int = 10,
        *,
        exact: bool | None = None,
        hybrid: bool = False,
        rerank: Reranker | None = None,
        candidates: int | None = None,
        prompt: str | None = None,
    ) -> Any:
        """Return the documents most similar to each query, best first.

        A document is `{"corpus_id": row number, "id", "score", "text"}`, with "fields" if it has others.

        Args:
            queries: one returns a list of documents, several return a list of such lists.
            top_k: documents of a query; all of a smaller index.
            exact: compares every document. Default: True unless the index has a graph. False needs one.
            hybrid: joins the ranking by embeddings with one by shared words, BM25. The score is then a sum of
                1 / (60 + rank), and "similarity" that of the embeddings.
            rerank: a `CrossEncoder` or a text-ranking pipeline, which scores the best `candidates` again. Its score
                takes the place of the first, and "similarity" is that of the embeddings.
            candidates: default: 50, at least `top_k`.
            prompt: text before each query. Default: the encoder's prompt named "query".

        Raises:
            InvalidInput: a query that is no text, is empty, or has no token that the model knows.
            UnsupportedOption: hybrid without the package bm25s.
        """
        texts, single = texts_of(queries, "query")
        check_top_k(top_k)
        many = top_k if rerank is None else max(top_k, 50 if candidates is None else candidates)
        check_top_k(many)
        vectors = self.embed_queries(texts, prompt)
        hits = self._fused(texts, vectors, many, exact) if hybrid else self.search_vectors(vectors, many, exact)
        if rerank is not None:
            hits = [rerank_hits(rerank, text, found)[:top_k] for text, found in zip(texts, hits, strict=True)]
        return hits[0] if single else hits

    def embed_queries(self, texts: Sequence[str], prompt: str | None = None) -> Vectors:
        """Return the vectors (queries, width) of texts. Raises InvalidInput for a text without an embedding."""
        before = self.encoder.prompts.get("query", "") if prompt is None else prompt
        options = EmbeddingOptions(prompt=before, truncate_dim=self.info.truncate_dim)
        found = embed_texts(self.encoder, texts, options)
        for number, error in found.errors.items():
            raise type(error)(f"Query {number} {error}")
        return found.vectors

    def search_vectors(self, vectors: Any, top_k: int = 10, exact: bool | None = None) -> list[list[Hit]]:
        """Return the documents most similar to each vector (queries, width) of the index's own model.

        Args:
            exact: as `search` has it.

        Raises:
            InvalidInput: vectors of another width, with zeros only, or with numbers that are not finite.
        """
        scores, rows = self._rank(vectors, top_k, exact)
        return [
            [self.hit(int(row), float(score)) for row, score in zip(*pair, strict=True) if row >= 0]
            for pair in zip(rows, scores, strict=True)
        ]

    def _rank(self, vectors: Any, top_k: int, exact: bool | None) -> tuple[Vectors, Vectors]:
        """Return scores and rows (queries, top_k), best first; row -1 for none. Raises as `search_vectors` does."""
        check_top_k(top_k)
        queries = self._checked(vectors)
        if exact is False and self.graph is None:
            raise UnsupportedOption("exact=False needs the graph of approximate search: index.make_graph().")
        if self.graph is None or exact:
            return self.vectors.search(queries, top_k)
        return self.graph.search(self.vectors, queries, top_k)

    def _checked(self, vectors: Any) -> Vectors:
        """Return vectors (queries, width), of length 1 if they are compared by cosine. Raises InvalidInput."""
        with read_errors("The queries", InvalidInput, "Give vectors of numbers."):
            queries = np.atleast_2d(np.asarray(vectors, dtype=np.float32))
        if queries.ndim != 2 or queries.shape[1] != self.vectors.width:
            raise InvalidInput(
                f"The index holds vectors of {self.vectors.width} numbers; queries have shape {list(queries.shape)}."
            )
        units = unit_rows(queries)
        return units if self.vectors.measure == "cosine" else queries

    @property
    def has_lexical(self) -> bool:
        """True if the BM25 weights of hybrid search are made."""
        return self._lexical is not None

    def make_lexical(self) -> LexicalIndex:
        """Return the BM25 weights of hybrid search, made at first use. Raises UnsupportedOption without bm25s."""
        if self._lexical is None:
            self._lexical = LexicalIndex.build((row["text"] for row in self.rows), self.encoder.tokenizer)
        return self._lexical

    def make_graph(self) -> None:
        """Make the graph of approximate search. Raises UnsupportedOption for distances, or without faiss."""
        self.graph = Graph.build(self.vectors)

    def _fused(self, texts: Sequence[str], vectors: Vectors, most: int, exact: bool | None) -> list[list[Hit]]:
        """Return the best documents by embeddings and shared words together."""
        deep = max(most, FUSED)
        found = []
        by_words = self.make_lexical().search(texts, self.encoder.tokenizer, deep)
        queries = self._checked(vectors)
        for query, words, scores, rows in zip(queries, by_words, *self._rank(vectors, deep, exact), strict=True):
            known = {int(row): float(score) for row, score in zip(rows, scores, strict=True) if row >= 0}
            fused = fuse_ranks(list(known), words, most)
            other = np.array([[row for row, _ in fused if row not in known]], np.int64)
            known |= dict(zip(other[0].tolist(), self.vectors.score(query[None], other)[0].tolist(), strict=True))
            found.append([{**self.hit(row, score), "similarity": known[row]} for row, score in fused])
        return found

    def hit(self, row: int, score: float) -> Hit:
        """Return the result for a row."""
        own = self.rows[row]
        more = {"fields": own["fields"]} if "fields" in own else {}
        return {"corpus_id": row, "id": own["id"], "score": score, "text": own["text"], **more}


def load_encoder(encoder: SentenceEncoder | str | os.PathLike[str]) -> SentenceEncoder:
    """Return an encoder, loaded if it is a name."""
    if isinstance(encoder, (str, os.PathLike)):
        return SentenceEncoder.from_pretrained(encoder)
    if not isinstance(encoder, SentenceEncoder):
        raise InvalidInput(f"encoder must be a SentenceEncoder or a name, not {type(encoder).__name__}.")
    return encoder


def model_name(encoder: SentenceEncoder) -> str:
    """Return the name by which an encoder is loaded again; that of a local folder is absolute."""
    name = str(encoder.name_or_path)
    return str(Path(name).absolute()) if Path(name).exists() else name


def document_prompt(encoder: SentenceEncoder, prompt: str | None) -> str:
    """Return the text before each document."""
    if prompt is not None:
        return encoder.prompt_text(None, prompt)
    return next((encoder.prompts[name] for name in DOCUMENT_PROMPTS if encoder.prompts.get(name)), "")


def _embed(
    encoder: SentenceEncoder, rows: Sequence[Row], info: IndexInfo, first: int, batch_size: int | None
) -> tuple[Vectors, list[int]]:
    """Return the vectors (rows, width), and the numbers of rows that were cut. Raises InvalidInput for the first error.

    Args:
        first: number of the first row.
    """
    options = EmbeddingOptions(
        prompt=info.prompt, truncation=info.truncation, truncate_dim=info.truncate_dim, batch_size=batch_size
    )
    parts, cut = [], list[int]()
    for window in windows(rows, lambda row: row["text"]):
        found = embed_texts(encoder, [row["text"] for row in window], options)
        for number, error in found.errors.items():
            raise type(error)(f"Document {first + number} {error}")
        cut += [first + number for number in found.cut]
        first += len(window)
        parts.append(unit_rows(found.vectors) if encoder.similarity_fn_name == "cosine" else found.vectors)
    return np.concatenate(parts), cut
