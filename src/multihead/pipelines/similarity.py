"""sentence-similarity, text-ranking, and labels by vectors: how alike sentences are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import InvalidInput, MultiheadError
from ..sentences.cross import CrossEncoder
from ..sentences.encoder import SentenceEncoder
from ..sentences.reading import read
from ..token_batches import check_room
from ..tokenizers.tokenizer import Tokenizer
from .base import Options, Reader, segments_of, text_of
from .streaming_batcher import Piece
from .zero_shot import Chooser, Choosing

SCALE = 20.0  # of cosines, in the loss of sentence encoders


@dataclass(frozen=True, kw_only=True)
class Comparing(Options):
    """Of sentence-similarity.

    Args:
        truncation: reads the beginning of a text that is too long, instead of refusing it.
    """

    truncation: bool = False


@dataclass(frozen=True, kw_only=True)
class Ranking(Options):
    """Of text-ranking.

    Args:
        top_k: documents, best first; None for all. return_documents: each with its "text".
        truncation: False refuses what is too long instead of reading its beginning.
    """

    top_k: int | None = None
    return_documents: bool = True
    truncation: bool = True


class Encoded(Reader):
    """What is answered by vectors of sentences.

    Args:
        model: a `SentenceEncoder`; of any other model, the means of its states are compared by their cosine.
    """

    def __init__(self, model: Any, tokenizer: Tokenizer, name: str, **options: Any) -> None:
        self.encoder = model if isinstance(model, SentenceEncoder) else SentenceEncoder(model, tokenizer)
        super().__init__(model, tokenizer, name, **options)

    @classmethod
    def load(cls, name: str | os.PathLike[str], **options: Any) -> SentenceEncoder:
        return SentenceEncoder.from_pretrained(name, **options)

    def vectors_of(self, texts: Sequence[str], truncation: bool) -> list[Piece] | MultiheadError:
        """A piece for each text."""
        encoder = self.encoder
        ids = read(encoder.model, encoder.tokenizer, list(texts), truncation=truncation)
        try:
            check_room(ids.lengths, encoder.max_seq_length)
        except MultiheadError as error:
            return type(error)(f"has a text that is too long: {error}")
        kinds: Sequence[Any] = ids.segments or [None] * len(ids.ids)
        return [Piece(text, types) for text, types in zip(ids.ids, kinds, strict=True)]

    def read(self, pieces: Sequence[Piece], o: Any) -> Sequence[Tensor]:
        result = self.encoder.model.run([piece.ids for piece in pieces], segments_of(pieces))
        return list(self.encoder.vectors(result.hidden, result.runs).float().cpu())

    def likeness(self, found: Sequence[Tensor]) -> list[float]:
        """Of each vector with the first, by the encoder's own measure."""
        vectors = torch.stack(list(found))[:, : self.encoder.truncate_dim]
        alike: list[float] = self.encoder.similarity(vectors[:1], vectors[1:])[0].tolist()
        return alike


class SentenceSimilarity(Encoded):
    """A number (most often a cosine) for each of `sentences` with `source_sentence`."""

    Options: ClassVar[type[Options]] = Comparing

    def accept(self, item: Any, o: Comparing) -> list[str]:
        if not isinstance(item, Mapping) or not {"source_sentence", "sentences"} <= set(item):
            raise InvalidInput('must be {"source_sentence": "...", "sentences": ["...", ...]}.')
        return [text_of(item["source_sentence"]), *listed(item["sentences"], "sentence")]

    def pieces(self, items: Sequence[list[str]], o: Comparing) -> list[list[Piece] | MultiheadError]:
        return [self.vectors_of(texts, o.truncation) for texts in items]

    def finish(self, item: Any, pieces: Sequence[Piece], found: Sequence[Any], o: Comparing) -> list[float]:
        return self.likeness(found)


class TextRanking(Encoded):
    """Ranks documents by how alike their vectors are to the query's: `[{"corpus_id", "score", "text"}]`, best first."""

    Options: ClassVar[type[Options]] = Ranking

    def accept(self, item: Any, o: Ranking) -> list[str]:
        return query_of(item)

    def pieces(self, items: Sequence[list[str]], o: Ranking) -> list[list[Piece] | MultiheadError]:
        return [self.vectors_of(texts, o.truncation) for texts in items]

    def finish(self, item: list[str], pieces: Sequence[Piece], found: Sequence[Any], o: Ranking) -> Any:
        return placed(item[1:], self.likeness(found), o)


class EmbeddedZeroShot(Chooser, Encoded):
    """Chooses the label whose sentence has the vector most like the text's.

    Shares are a softmax of cosines times `SCALE`, as such encoders are trained (Henderson et al., 2017,
    arXiv:1705.00652); with multi_label, a label's cosine itself, from 0.
    """

    def pieces(self, items: Sequence[str], o: Choosing) -> list[list[Piece] | MultiheadError]:
        sentences = [o.hypothesis_template.format(label) for label in o.labels]
        return [self.vectors_of([text, *sentences], truncation=True) for text in items]

    def finish(self, item: str, pieces: Sequence[Piece], found: Sequence[Any], o: Choosing) -> dict[str, Any]:
        alike = torch.tensor(self.likeness(found))
        return self.ordered(item, alike.clamp(0, 1) if o.multi_label else (SCALE * alike).softmax(-1), o)


class CrossRanking(Reader):
    """Ranks documents with a classifier that reads each together with the query."""

    auto = "AutoModelForSequenceClassification"
    Options: ClassVar[type[Options]] = Ranking

    def __init__(self, model: Any, tokenizer: Tokenizer, name: str, **options: Any) -> None:
        self.encoder = model if isinstance(model, CrossEncoder) else CrossEncoder(model, tokenizer)
        if self.encoder.num_labels != 1:
            raise InvalidInput(
                f"text-ranking needs a model that gives one score; {model.name_or_path} has {self.encoder.num_labels}."
            )
        super().__init__(self.encoder.model, tokenizer, name, **options)

    @classmethod
    def load(cls, name: str | os.PathLike[str], **options: Any) -> CrossEncoder:
        return CrossEncoder.from_pretrained(name, **options)

    def accept(self, item: Any, o: Ranking) -> list[str]:
        return query_of(item)

    def pieces(self, items: Sequence[list[str]], o: Ranking) -> list[Any]:
        found: list[Any] = []
        for query, *documents in items:
            rows = self.encoded([(query, document) for document in documents], o.truncation)
            lost = next((row for row in rows if isinstance(row, MultiheadError)), None)
            found.append(lost or [row[0] for row in rows])
        return found

    def finish(self, item: list[str], pieces: Sequence[Piece], found: Sequence[Tensor], o: Ranking) -> Any:
        scores = self.encoder.activation_fn(torch.stack(list(found)))[:, 0].tolist() if found else []
        return placed(item[1:], scores, o)


def query_of(item: Any) -> list[str]:
    """The query, then the documents. Raises InvalidInput."""
    names = {"query": ("query", "source_sentence"), "documents": ("documents", "texts", "sentences")}
    given = item if isinstance(item, Mapping) else {}
    query, documents = (next((given[n] for n in all_ if n in given), None) for all_ in names.values())
    if query is None or documents is None:
        raise InvalidInput('must be {"query": "...", "documents": ["...", ...]}.')
    return [text_of(query, "query"), *listed(documents, "document")]


def listed(texts: Any, what: str) -> list[str]:
    """Texts, one or several. Raises InvalidInput."""
    if isinstance(texts, str):
        return [texts]
    if not isinstance(texts, (list, tuple)):
        raise InvalidInput(f"must have a list of {what}s, not {type(texts).__name__}.")
    return [text_of(text, what) for text in texts]


def placed(documents: Sequence[str], scores: Sequence[float], o: Ranking) -> list[dict[str, Any]]:
    """Documents with their scores, best first."""
    order = sorted(range(len(documents)), key=lambda number: -scores[number])[: o.top_k]
    more = [{"text": documents[number]} if o.return_documents else {} for number in order]
    return [{"corpus_id": n, "score": scores[n], **text} for n, text in zip(order, more, strict=True)]
