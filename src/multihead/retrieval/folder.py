"""Folders of an index: vectors, rows, and a description by which everything else is checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..config import Size, read_json, write_json
from ..errors import CorruptFile, InvalidInput, ModelNotFound, read_errors
from ..files import check_folder, check_unchanged, rebuild_folder
from ..sentences.modules import read_entry
from .graph import GRAPH_FILE, Graph
from .lexical import FILES as LEXICAL_FILES
from .lexical import LexicalIndex
from .rows import OFFSETS_FILE, ROWS_FILE, Row, RowFile, write_rows
from .vectors import CODE_TYPES, StoredVectors, check_precision, code_width

INDEX_FILE = "index.json"
VECTORS_FILE, RANGES_FILE, PROBE_FILE = "vectors.npy", "ranges.npy", "probe.npy"
FILES = (
    frozenset({INDEX_FILE, VECTORS_FILE, RANGES_FILE, PROBE_FILE, ROWS_FILE, OFFSETS_FILE, GRAPH_FILE}) | LEXICAL_FILES
)
FORMAT = 1
ENTRIES: dict[str, Any] = {
    "rows": Size, "width": Size, "precision": str, "similarity": str, "model": str, "prompt": str, "truncation": bool,
    "truncate_dim": Size | None, "source": dict | None, "graph": str | None,
}  # fmt: skip
INFO = ("model", "prompt", "truncation", "truncate_dim", "source")  # entries of index.json that are an IndexInfo
ADVICE = "Build the index again."


@dataclass(frozen=True)
class IndexInfo:
    """Description of an index.

    Args:
        model: name of the encoder. prompt: text before each document. truncation: whether long documents are cut.
        truncate_dim: dimensions of an embedding that are kept; None for all.
        source: what the index was built from, for programs that keep indexes.
    """

    model: str
    prompt: str = ""
    truncation: bool = True
    truncate_dim: int | None = None
    source: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class IndexFiles:
    """Content of a folder."""

    info: IndexInfo
    vectors: StoredVectors
    rows: RowFile
    probe: Any
    graph: Graph | None


def write_index(
    folder: Path,
    info: IndexInfo,
    vectors: StoredVectors,
    rows: Iterable[Row],
    probe: Any,
    lexical: LexicalIndex | None = None,
    graph: Graph | None = None,
) -> None:
    """Write a folder, whole or not at all. Only files of an index are replaced.

    Raises:
        InvalidInput: the folder cannot be written, or it holds other files and no index.
    """
    check_target(folder)
    with rebuild_folder(folder, INDEX_FILE, lambda name: name in FILES) as stage:
        write_rows(stage, rows)
        np.save(stage / VECTORS_FILE, vectors.codes, allow_pickle=False)
        np.save(stage / PROBE_FILE, probe, allow_pickle=False)
        if vectors.ranges is not None:
            np.save(stage / RANGES_FILE, vectors.ranges, allow_pickle=False)
        if lexical is not None:
            lexical.save(stage)
        graph_hash = None if graph is None else graph.save(stage)
        write_json(stage / INDEX_FILE, {**describe(info, vectors), "graph": graph_hash})


def check_target(folder: Path) -> None:
    """Raise InvalidInput for a folder that cannot be written, or that holds other files and no index."""
    if folder.is_dir() and not (folder / INDEX_FILE).exists() and any(p.name[:1] != "." for p in folder.iterdir()):
        raise InvalidInput(f"{folder} holds files and no index. Name a new folder, or an index.")
    if folder.exists() and not folder.is_dir():
        raise InvalidInput(f"{folder} is a file, and an index is a folder. Name another.")
    check_folder(folder)


def describe(info: IndexInfo, vectors: StoredVectors) -> dict[str, Any]:
    """Return the entries of index.json."""
    return {
        "format": FORMAT,
        "rows": len(vectors),
        "width": vectors.width,
        "precision": vectors.precision,
        "similarity": vectors.measure,
        "model": info.model,
        "prompt": info.prompt,
        "truncation": info.truncation,
        "truncate_dim": info.truncate_dim,
        "source": info.source,
    }


def read_index(folder: Path) -> IndexFiles:
    """Map the files of a folder.

    Raises:
        ModelNotFound: no index there. CorruptFile: files that are missing, broken or do not fit each other.
    """
    path = folder / INDEX_FILE
    if not path.is_file():
        raise ModelNotFound(f"{folder} is no index: it has no {INDEX_FILE}.")
    with check_unchanged(path), read_errors(folder, CorruptFile, ADVICE):
        entries = read_json(path)
        if entries.get("format") != FORMAT:
            raise CorruptFile(f"{path}: format is {entries.get('format')!r}; this version reads {FORMAT}.")
        found = {name: read_entry(entries, name, kind, None, str(path)) for name, kind in ENTRIES.items()}
        vectors = _read_vectors(folder, found)
        rows = RowFile(folder / ROWS_FILE, load_array(folder / OFFSETS_FILE))
        if len(rows) != found["rows"]:
            raise CorruptFile(f"{folder} has {len(rows)} texts for {found['rows']} vectors. {ADVICE}")
        probe = load_array(folder / PROBE_FILE)
        if probe.ndim != 2 or probe.shape[1] != vectors.width or probe.dtype.kind != "f":
            raise CorruptFile(f"{folder / PROBE_FILE} does not fit the vectors. {ADVICE}")
        graph = found["graph"] and Graph.load(folder, found["graph"], len(rows), vectors.width)
        info = IndexInfo(**{name: found[name] for name in INFO})
        return IndexFiles(info, vectors, rows, np.array(probe), graph)


def _read_vectors(folder: Path, found: Mapping[str, Any]) -> StoredVectors:
    check_precision(found["precision"], found["similarity"])
    codes = load_array(folder / VECTORS_FILE)
    shape = (found["rows"], code_width(found["width"], found["precision"]))
    if codes.shape != shape or codes.dtype != CODE_TYPES[found["precision"]]:
        raise CorruptFile(
            f"{folder / VECTORS_FILE} holds {codes.dtype} {list(codes.shape)}, and {INDEX_FILE} says "
            f"{found['precision']} {list(shape)}. {ADVICE}"
        )
    ranges = np.array(load_array(folder / RANGES_FILE)) if found["precision"] == "int8" else None
    return StoredVectors(codes, found["width"], found["precision"], found["similarity"], ranges)


def load_array(path: Path) -> Any:
    """Map an array of a file. Raises CorruptFile."""
    if not path.is_file():
        raise CorruptFile(f"{path.parent} has no {path.name}. {ADVICE}")
    with read_errors(path, CorruptFile, ADVICE):
        return np.load(path, mmap_mode="r", allow_pickle=False)
