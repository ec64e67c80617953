"""Documents in passages, with an index of their embeddings, so that answers can quote them by place."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data_files import read, row_or_raise
from ...errors import InvalidInput
from ...retrieval.index import Index
from ...sentences.encoder import SentenceEncoder
from ..splitting import split_sentences
from .passages import MOST, split_passages

TEXT_KEYS = (
    "text",
    "content",
    "body",
    "context",
    "document",
)  # of a document that is a mapping, the first that is there
NAME_KEYS = ("id", "title", "name", "source")
PLAIN_FILES = frozenset((".txt", ".md", ".rst"))  # a whole file is one document


@dataclass(frozen=True)
class Document:
    """A text with its name: its "id" or "title", the name of its file, or its number."""

    name: str | int
    text: str


@dataclass(frozen=True)
class Passage:
    """Part of a document, characters `start` to `end`.

    Args:
        score: similarity of the question.
    """

    document: Document
    start: int
    end: int
    score: float = 0.0

    @property
    def text(self) -> str:
        return self.document.text[self.start : self.end]

    def quote(self, start: int, end: int, score: float) -> dict[str, Any]:
        """Return the source of an answer at some characters of the passage: the sentences around it, verbatim."""
        spans = [(a, b) for a, b in split_sentences(self.text) if a < end and b > start] or [(start, end)]
        first, last = self.start + spans[0][0], self.start + spans[-1][1]
        return {
            "document": self.document.name,
            "start": first,
            "end": last,
            "text": self.document.text[first:last],
            "score": score,
        }


class DocumentStore:
    """Documents whose passages can be searched.

    Args:
        documents: see `read_documents`. encoder: of passages and questions. most: characters of a passage, about.

    Raises:
        InvalidInput: no documents, or one without a text.
    """

    def __init__(self, documents: Any, encoder: SentenceEncoder, most: int = MOST) -> None:
        self.documents = read_documents(documents)
        self.passages = [
            Passage(document, start, end)
            for document in self.documents
            for start, end in stripped(document.text, split_passages(document.text, most))
        ]
        if not self.passages:
            raise InvalidInput("There are no documents with a text.")
        self.index = Index.build([titled(passage) for passage in self.passages], encoder)

    def search(self, questions: Sequence[str], top_k: int, rerank: Any = None) -> list[list[Passage]]:
        """Return the passages that fit each question best, best first."""
        found = self.index.search(list(questions), top_k, rerank=rerank)
        return [[self.passage(hit["corpus_id"], hit["score"]) for hit in hits] for hits in found]

    def passage(self, number: int, score: float) -> Passage:
        own = self.passages[number]
        return Passage(own.document, own.start, own.end, score)


def titled(passage: Passage) -> str:
    """Return the text of a passage that is embedded: after the document's name, if that says something."""
    name = passage.document.name
    return f"{name}. {passage.text}" if isinstance(name, str) and any(map(str.isalpha, name)) else passage.text


def stripped(text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return spans without white space at their ends; none that are empty."""
    found = []
    for start, end in spans:
        piece = text[start:end]
        left, right = len(piece) - len(piece.lstrip()), len(piece.rstrip())
        if piece.strip():
            found.append((start + left, start + right))
    return found


def read_documents(documents: Any) -> list[Document]:
    """Return documents of any form.

    Args:
        documents: a list of texts, of mappings with a text ("text", "content", ...) and perhaps an "id" or "title", or
            of paths; or one path of a file of rows (.jsonl, .csv, ...), of a text file, or of a folder of text files.

    Raises:
        InvalidInput: anything else. Errors of files as `data_files.read` does.
    """
    if isinstance(documents, (str, os.PathLike)):
        return read_path(Path(documents))
    if hasattr(documents, "to_dict") and hasattr(documents, "columns"):  # pandas
        documents = documents.to_dict("records")
    elif hasattr(documents, "to_pylist"):  # Arrow
        documents = documents.to_pylist()
    if isinstance(documents, Mapping) or not isinstance(documents, Iterable):
        raise InvalidInput(f"documents are a list of texts, or a file; not {type(documents).__name__}.")
    found: list[Document] = []
    for number, item in enumerate(documents):
        found += read_path(item) if isinstance(item, Path) else [read_document(row_or_raise(item), number)]
    return found


def state_of(documents: Any) -> Any:
    """Return what is equal for documents that have not changed: stamps of files, else the documents read.

    An iterator is its own state, because it can be read once.
    """
    if isinstance(documents, Iterator):
        return documents
    if not isinstance(documents, (str, os.PathLike)):
        return read_documents(documents)
    path = Path(documents)
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    stats = [(str(each), each.stat()) for each in files if each.is_file()]
    return (str(path.absolute()), *((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats))


def read_document(item: Any, number: int) -> Document:
    """Return a document of a text or a mapping. Raises InvalidInput."""
    if isinstance(item, Document):
        return item
    if isinstance(item, str):
        return Document(number, item)
    if not isinstance(item, Mapping):
        raise InvalidInput(f"Document {number} must be a text or a mapping with one, not {type(item).__name__}.")
    text = next((item[key] for key in TEXT_KEYS if key in item), None)
    if not isinstance(text, str):
        raise InvalidInput(f'Document {number} has no text: it needs "text", and perhaps "id" or "title".')
    name = next((item[key] for key in NAME_KEYS if item.get(key) not in (None, "")), number)
    return Document(name if isinstance(name, (str, int)) else str(name), text)


def read_path(path: Path) -> list[Document]:
    """Return the documents of a file, or of the text files of a folder. Raises InvalidInput for none."""
    if path.is_dir():
        files = sorted(each for each in path.rglob("*") if each.suffix.lower() in PLAIN_FILES and each.is_file())
        if not files:
            raise InvalidInput(f"{path} has no text files ({', '.join(sorted(PLAIN_FILES))}).")
        return [Document(str(each.relative_to(path)), read_text(each)) for each in files]
    if path.suffix.lower() in PLAIN_FILES and path.exists():
        return [Document(path.name, read_text(path))]
    return [read_document(row_or_raise(row), number) for number, row in enumerate(read(path))]


def read_text(path: Path) -> str:
    """Return the text of a file with its own line ends, so that places in it are exact. Raises InvalidInput."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is no UTF-8 text (byte {error.start}). Write it again in UTF-8.") from None
