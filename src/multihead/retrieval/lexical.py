"""Search by shared words: BM25 (Robertson and Zaragoza, 2009) over the tokens of the encoder's tokenizer.

The tokens need no rules of a language, and parts of rare words still match.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CorruptFile, read_errors
from ..tokenizers.tokenizer import Tokenizer
from .packages import import_package

NAMES = {
    "data_name": "lexical.data.npy",
    "indices_name": "lexical.indices.npy",
    "indptr_name": "lexical.indptr.npy",
    "vocab_name": "lexical.vocabulary.json",
    "params_name": "lexical.json",
}
FILES = frozenset(NAMES.values())
CHUNK = 4096  # texts that are tokenized at once
PURPOSE = "Hybrid search"
RRF = 60  # rank added to each rank (Cormack et al., 2009), so that first places do not decide alone


class LexicalIndex:
    """BM25 weights of texts.

    Args:
        scorer: of bm25s. rows: number of texts.
    """

    def __init__(self, scorer: Any, rows: int) -> None:
        self.scorer, self.rows = scorer, rows

    @classmethod
    def build(cls, texts: Iterable[str], tokenizer: Tokenizer) -> LexicalIndex:
        """Index texts. Raises UnsupportedOption if bm25s is not installed."""
        bm25s = import_package("bm25s", PURPOSE)
        tokens = list(token_names(texts, tokenizer))
        scorer = bm25s.BM25()
        scorer.index(tokens, show_progress=False)
        return cls(scorer, len(tokens))

    @classmethod
    def load(cls, folder: Path, rows: int) -> LexicalIndex | None:
        """Map the files of a folder; None if there are none. Raises CorruptFile, UnsupportedOption."""
        if not (folder / NAMES["params_name"]).is_file():
            return None
        bm25s = import_package("bm25s", PURPOSE)
        with read_errors(folder, CorruptFile, "Build the index again."):
            scorer = bm25s.BM25.load(folder, **NAMES, mmap=True, allow_pickle=False)
            found = scorer.scores["num_docs"]
        if found != rows:
            raise CorruptFile(f"{folder} has BM25 weights of {found} texts, and there are {rows}. Build it again.")
        return cls(scorer, rows)

    def save(self, folder: Path) -> None:
        """Write the files into a folder."""
        self.scorer.save(folder, **NAMES, allow_pickle=False, show_progress=False)

    def search(self, queries: Sequence[str], tokenizer: Tokenizer, most: int) -> list[list[int]]:
        """Return the numbers of the texts that share most with each query, best first; none that shares no token."""
        return [self._search(tokens, most) for tokens in token_names(queries, tokenizer)]

    def _search(self, tokens: list[str], most: int) -> list[int]:
        known = [token for token in tokens if token in self.scorer.vocab_dict]
        if not known:
            return []
        with read_errors("The BM25 weights of the index", CorruptFile, "Build the index again."):
            scores = np.asarray(self.scorer.get_scores(known))
        best = np.argsort(-scores, kind="stable")[:most]
        return [int(row) for row in best if scores[row] > 0]


def token_names(texts: Iterable[str], tokenizer: Tokenizer) -> Iterator[list[str]]:
    """Yield the token ids of each text, in small letters and without special tokens, as strings."""
    names = [str(number) for number in range(len(tokenizer))]
    hidden = {*tokenizer.all_special_ids}
    source = iter(texts)
    while chunk := [text.casefold() for text in islice(source, CHUNK)]:
        for encoding in tokenizer.run(chunk, words=False, special=False, limits=None):
            yield [names[token] for token in encoding.ids if token not in hidden]


def fuse_ranks(first: Sequence[int], second: Sequence[int], most: int) -> list[tuple[int, float]]:
    """Return rows and scores by reciprocal rank fusion, best first: sums of 1 / (60 + rank).

    Of rows with one score, the one that `second` has first comes first.
    """
    scores: dict[int, float] = {}
    for ranking in (first, second):
        for rank, row in enumerate(ranking, 1):
            scores[row] = scores.get(row, 0.0) + 1 / (RRF + rank)
    place = {row: rank for rank, row in enumerate(second)}
    return sorted(scores.items(), key=lambda pair: (-pair[1], place.get(pair[0], len(second)), pair[0]))[:most]
