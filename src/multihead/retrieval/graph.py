"""Approximate search by a graph of neighbours (HNSW, Malkov and Yashunin, 2016, arXiv:1603.09320), by faiss.

The graph holds one byte a number and proposes rows, which are then compared by their stored vectors.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CorruptFile, UnsupportedOption
from .packages import import_package
from .vectors import StoredVectors, Vectors, top_places

GRAPH_FILE = "graph.faiss"
NEIGHBORS, CANDIDATES = 16, 128  # of a row in the graph; that are looked at while it is built
EFFORT, PROPOSED = 128, 4  # rows that a query looks at, at least; rows that are proposed for each result
TRAINING = 1 << 16  # vectors of which the ranges of bytes are taken
BLOCK = 1 << 14  # vectors that are added at once
PURPOSE = "Approximate search"


class Graph:
    """Graph over the vectors of an index.

    Args:
        graph: of faiss.
    """

    def __init__(self, graph: Any) -> None:
        self.graph = graph

    def __len__(self) -> int:
        return int(self.graph.ntotal)

    @classmethod
    def build(cls, vectors: StoredVectors) -> Graph:
        """Build the graph of all vectors. Raises UnsupportedOption for distances, or without faiss."""
        if vectors.measure not in ("cosine", "dot"):
            raise UnsupportedOption(f"Approximate search compares by cosine or dot product, not by {vectors.measure}.")
        faiss = import_package("faiss", PURPOSE)
        kind, measure = faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        graph = faiss.IndexHNSWSQ(vectors.width, kind, NEIGHBORS, measure)
        graph.hnsw.efConstruction = CANDIDATES
        step = max(len(vectors) // TRAINING, 1)
        graph.train(np.ascontiguousarray(vectors.decoded(slice(0, None, step))))
        made = cls(graph)
        made.add(vectors)
        return made

    def add(self, vectors: StoredVectors) -> None:
        """Add the vectors that the graph does not have yet."""
        for begin in range(len(self), len(vectors), BLOCK):
            self.graph.add(np.ascontiguousarray(vectors.decoded(slice(begin, min(begin + BLOCK, len(vectors))))))

    def search(self, vectors: StoredVectors, queries: Vectors, top_k: int) -> tuple[Vectors, Vectors]:
        """Return scores and rows (queries, top_k) of proposed rows, best first. A row of -1 stands for none."""
        top_k = min(top_k, len(self))
        proposed = min(PROPOSED * top_k, len(self))
        self.graph.hnsw.efSearch = max(EFFORT, proposed)
        _, rows = self.graph.search(np.ascontiguousarray(queries), proposed)
        scores = np.where(rows >= 0, vectors.score(queries, np.maximum(rows, 0)), -np.inf)
        order = top_places(scores, rows, top_k)
        return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)

    def save(self, folder: Path) -> str:
        """Write the graph into a folder. Return its hash."""
        import_package("faiss", PURPOSE).write_index(self.graph, str(folder / GRAPH_FILE))
        return file_hash(folder / GRAPH_FILE)

    @classmethod
    def load(cls, folder: Path, expected: str, rows: int, width: int) -> Graph:
        """Read the graph of a folder.

        Args:
            expected: its hash. Files of other content are not given to faiss, which does not check them.

        Raises:
            CorruptFile: no such file, another hash, or another number of rows.
        """
        path = folder / GRAPH_FILE
        if not path.is_file() or file_hash(path) != expected:
            raise CorruptFile(f"{path} is missing or not what was written. Build the index again.")
        graph = import_package("faiss", PURPOSE).read_index(str(path))
        if graph.ntotal != rows or graph.d != width:
            raise CorruptFile(f"{path} has {graph.ntotal} rows of {graph.d} numbers. Build the index again.")
        return cls(graph)


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
