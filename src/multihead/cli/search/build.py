"""The index of a file: built at the first search, kept beside the file, built again when the file has changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import CorruptFile, InvalidInput, ModelNotFound
from ...retrieval.embedding import Embedded, EmbeddingOptions, embed_texts, windows
from ...retrieval.folder import INDEX_FILE, IndexInfo, check_target, read_index, write_index
from ...retrieval.index import document_prompt, model_name
from ...retrieval.lexical import LexicalIndex
from ...retrieval.probe import probe_vectors
from ...retrieval.rows import Row
from ...retrieval.vectors import StoredVectors, code_width, unit_rows
from ...sentences.encoder import SentenceEncoder
from ..embedding_parts import Part, Parts
from ..encoders import embedding_options
from ..text_rows import TextRow, read_rows

if TYPE_CHECKING:
    from rich.console import Console

Values = Mapping[str, Any]
STEP = 2048  # vectors that are copied at once


@dataclass(frozen=True)
class Source:
    """File of documents, and options of its index.

    Args:
        path: the file. folder: of its index. options: "column", "id", "model", "prompt", "prompt_name",
            "truncate_dim", "no_truncation", "quantize" of the command line; None if not given.
        hybrid: whether the index has BM25 weights.
    """

    path: Path
    folder: Path
    options: Values
    hybrid: bool

    def description(self) -> dict[str, Any]:
        """Return what the index is built from, to be compared with what it was built from."""
        status = self.path.stat()
        return {"file": self.path.name, "size": status.st_size, "time": status.st_mtime_ns, **self.options}

    def reason_to_build(self) -> str | None:
        """Return why the index has to be built: there is none, the file has changed, or other options are given.

        Raises:
            CorruptFile: an index that is broken. InvalidInput: a folder with other files.
        """
        try:
            known = read_index(self.folder).info.source
        except ModelNotFound:
            return "there is no index of it yet"
        if known is None:
            raise InvalidInput(
                f"{self.folder} is an index of other documents. Search it itself, or name another --index."
            )
        now = self.description()
        if any(known.get(name) != now[name] for name in ("file", "size", "time")):
            return "it has changed since its index was built"
        if other := [name for name, value in self.options.items() if value is not None and known.get(name) != value]:
            return f"its index was built with another {other[0]}"
        return None

    def rows(self) -> Iterator[TextRow]:
        """Yield the documents. A row whose id another one has is an error."""
        known: dict[Any, int] = {}
        for row in read_rows((), self.path, self.options["column"], self.options["id"]):
            text = row.text
            if self.options["id"] is not None and isinstance(text, str):
                if isinstance(row.id, bool) or not isinstance(row.id, (str, int)):
                    text = InvalidInput(f"has the id {row.id!r:.60}, which is no string and no whole number.")
                elif row.id in known:
                    text = InvalidInput(f"has the id of row {known[row.id]}: {row.id!r:.60}.")
                else:
                    known[row.id] = row.number
            yield TextRow(row.number, row.id, text, row.values)


def default_folder(path: Path) -> Path:
    """Return the folder of a file's index, beside it."""
    return path.with_name(f"{path.name}.index")


@dataclass
class Builder:
    """Build of an index from a source, in parts, by which a stopped build continues.

    Args:
        log: console of errors and progress. loading: options that change vectors: precision, device.
    """

    source: Source
    encoder: SentenceEncoder
    log: Console
    loading: Values
    strict: bool = False

    def run(self) -> None:
        """Embed the file and write the index. Raises InvalidInput if no row has an embedding."""
        own, encoder = self.source.options, self.encoder
        check_target(self.source.folder)
        prompt = own["prompt"] if own["prompt_name"] is not None else document_prompt(encoder, own["prompt"])
        options = embedding_options(
            encoder, prompt, own["prompt_name"], own["truncate_dim"], bool(own["no_truncation"])
        )
        parts = Parts(self.source.folder, {**self.source.description(), **self.loading}, overwrite=True)
        try:
            self.embed(parts, options)
            self.write(parts, options)
            parts.remove()
        finally:
            parts.close()

    def embed(self, parts: Parts, options: EmbeddingOptions) -> None:
        """Embed the rows that the parts do not have."""
        from ...training.signals import Signals
        from ..render.status import row_counter

        rows = self.source.rows()
        parts.skip(rows)
        cut = 0
        with (
            Signals(at_once=True) as signals,
            row_counter(self.log, "index", parts.rows, not self.log.is_terminal) as advance,
        ):
            for window in windows(rows, lambda row: row.text):
                found = embed_texts(self.encoder, [row.text for row in window], options)
                self.report(parts.write(window, found), found)
                cut += len(found.cut)
                for _ in window:
                    advance()
                signals.check()
        if cut:
            self.log.print(
                f"{cut} documents have more than {self.encoder.max_seq_length} tokens; only their beginning is "
                "compared.", style="yellow", soft_wrap=True,
            )  # fmt: skip

    def report(self, part: Part, found: Embedded) -> None:
        """Name the rows without an embedding. Raises the first if the build is strict."""
        for row in part.rows:
            if "error" in row:
                if self.strict:
                    raise InvalidInput(row["error"])
                self.log.print(row["error"], style="red", soft_wrap=True)

    def write(self, parts: Parts, options: EmbeddingOptions) -> None:
        """Write the index of all parts."""
        total = sum(len(part.vectors) for part in parts)
        if not total:
            raise InvalidInput(f"{self.source.path} has no row with an embedding, so there is nothing to search.")
        width = next(part.vectors.shape[1] for part in parts if len(part.vectors))
        measure, precision = self.encoder.similarity_fn_name, self.source.options["quantize"] or "float32"
        vectors = mapped(parts.folder / "vectors.npy", np.float32, (total, width))
        begin = 0
        for part in parts:
            rows = part.vectors if measure != "cosine" else unit_rows(part.vectors)
            vectors[begin : begin + len(rows)] = rows
            begin += len(rows)
        codes = None
        if precision != "float32":
            codes = mapped(parts.folder / "codes.npy", np.int8, (total, code_width(width, precision)))
        stored = StoredVectors.of(vectors, precision, measure, codes)
        info = IndexInfo(
            model_name(self.encoder), options.prompt, options.truncation, options.truncate_dim,
            self.source.description(),
        )  # fmt: skip
        lexical = None
        if self.source.hybrid:
            texts = (row["text"] for row in self.documents(parts))
            lexical = LexicalIndex.build(texts, self.encoder.tokenizer)
        probe = probe_vectors(self.encoder, options.truncate_dim)
        write_index(self.source.folder, info, stored, self.documents(parts), probe, lexical)

    def documents(self, parts: Parts) -> Iterator[Row]:
        """Yield the rows of the file that have a vector. Raises InvalidInput if the file has changed meanwhile."""
        embedded = (row for part in parts for row in part.rows)
        for row, known in zip(self.source.rows(), embedded, strict=True):
            if "error" in known:
                continue
            if not isinstance(row.text, str) or row.id != known["id"]:
                raise CorruptFile(f"{self.source.path} was written while it was read. Search it again.")
            fields = {str(name): value for name, value in row.values.items() if value is not row.text}
            yield {"id": row.id, "text": row.text, **({"fields": fields} if fields else {})}


def mapped(path: Path, kind: Any, shape: tuple[int, int]) -> Any:
    """Return an array in a new file."""
    return np.lib.format.open_memmap(path, "w+", kind, shape)


def is_index(path: Path) -> bool:
    """Return whether a path is the folder of an index."""
    return path.is_dir() and (path / INDEX_FILE).is_file()
