"""sentence-similarity, text-ranking, and zero-shot-classification by sentence embeddings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import InvalidInput, MultiheadError
from ..modeling.seq2seq import SequenceToSequence
from ..sentences.base import tokenize
from ..sentences.cross import CrossEncoder
from ..sentences.encoder import SentenceEncoder
from ..token_batches import check_room
from ..tokenizers.tokenizer import Tokenizer
from .answers import WithNotices
from .base import ForwardPipeline, PipelineOptions, text_of, token_types_of
from .streaming_batcher import ModelInput, Preprocessed, join_inputs
from .text_checks import NamedText, find_unknown, is_empty
from .zero_shot import ZeroShotOptions, ZeroShotPipeline

TEMPLATE = "This is a {} message."  # chosen among 34 (benchmarks/quality/zero_shot.py)
SCALE = 20.0  # factor of cosines in the loss of sentence encoders


@dataclass(frozen=True, kw_only=True)
class SentenceSimilarityOptions(PipelineOptions):
    """Options of sentence-similarity.

    Args:
        truncation: reads the beginning of a text that is too long, instead of refusing it.
    """

    truncation: bool = False


@dataclass(frozen=True, kw_only=True)
class TextRankingOptions(PipelineOptions):
    """Options of text-ranking.

    Args:
        top_k: documents, best first; None for all. return_documents: adds the "text" of each.
        truncation: False refuses what is too long instead of reading its beginning.
    """

    top_k: int | None = None
    return_documents: bool = True
    truncation: bool = True


@dataclass(frozen=True)
class Query:
    """Query and documents to rank.

    Args:
        kept: numbers of the documents that say something to the model.
    """

    text: str
    documents: Sequence[str]
    kept: Sequence[int]

    @property
    def kept_documents(self) -> list[str]:
        return [self.documents[number] for number in self.kept]


class EmbeddingPipeline(ForwardPipeline):
    """Base of pipelines that compare sentence embeddings.

    Args:
        model: a `SentenceEncoder`. Any other model compares the means of its hidden states by their cosine.
    """

    def __init__(self, model: Any, tokenizer: Tokenizer, name: str, **options: Any) -> None:
        if isinstance(model, SequenceToSequence):
            raise InvalidInput(
                f"{name} needs embeddings, and {type(model).__name__} is an encoder-decoder, which computes none here."
            )
        self.encoder = model if isinstance(model, SentenceEncoder) else SentenceEncoder(model, tokenizer)
        super().__init__(model, tokenizer, name, **options)

    @classmethod
    def load(cls, name: str | os.PathLike[str], **options: Any) -> SentenceEncoder:
        return SentenceEncoder.from_pretrained(name, **options)

    def encode_sentences(self, texts: Sequence[str], truncation: bool) -> Preprocessed:
        """Return one model input for each text, or the error of the first that is too long."""
        encoder = self.encoder
        ids = tokenize(encoder.model, encoder.tokenizer, list(texts), truncation=truncation)
        try:
            check_room(ids.lengths, encoder.max_seq_length)
        except MultiheadError as error:
            return type(error)(f"has a text that is too long: {error}")
        types: Sequence[Any] = ids.token_types or [None] * len(ids.ids)
        return [ModelInput(text, own) for text, own in zip(ids.ids, types, strict=True)]

    def forward_batch(self, inputs: Sequence[ModelInput], o: Any) -> Sequence[Tensor]:
        """Return the embedding (width,) of each model input."""
        result = self.encoder.model.run([each.ids for each in inputs], token_types_of(inputs), at=())
        return list(self.encoder.vectors(result.hidden, result.runs).float().cpu())

    def similarity_to_first(self, embeddings: Sequence[Tensor]) -> list[float]:
        """Return the similarity of each embedding to the first, by the encoder's own measure."""
        vectors = torch.stack(list(embeddings))[:, : self.encoder.truncate_dim]  # (texts, width)
        scores: list[float] = self.encoder.similarity(vectors[:1], vectors[1:])[0].tolist()
        return scores


class SentenceSimilarity(EmbeddingPipeline):
    """Returns the similarity, most often a cosine, of each of `sentences` to `source_sentence`."""

    Options: ClassVar[type[PipelineOptions]] = SentenceSimilarityOptions

    def validate(self, item: Any, o: SentenceSimilarityOptions) -> list[str]:
        if not isinstance(item, Mapping) or not {"source_sentence", "sentences"} <= set(item):
            raise InvalidInput('must be {"source_sentence": "...", "sentences": ["...", ...]}.')
        return [text_of(item["source_sentence"]), *list_texts(item["sentences"], "sentence")]

    def texts(self, item: list[str], o: Any) -> Sequence[NamedText]:
        names = [f"sentence {number}" for number in range(len(item) - 1)]
        return [*map(NamedText, ["source_sentence", *names], item)]

    def preprocess(self, items: Sequence[list[str]], o: SentenceSimilarityOptions) -> list[Preprocessed]:
        return [self.encode_sentences(texts, o.truncation) for texts in items]

    def postprocess(
        self, item: Any, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: SentenceSimilarityOptions
    ) -> list[float]:
        return self.similarity_to_first(outputs)


class RankingPipeline(ForwardPipeline):
    """Base of all ways to rank documents: `[{"corpus_id", "score", "text"}]`, best first.

    Documents that say nothing to the model are left out, with a notice.
    """

    Options: ClassVar[type[PipelineOptions]] = TextRankingOptions

    def validate(self, item: Any, o: TextRankingOptions) -> Query:
        query, *documents = query_and_documents(item)
        kept = [number for number, document in enumerate(documents) if not self.says_nothing(document)]
        if documents and not kept:
            raise InvalidInput("has no document that says something: all are empty or unknown to the model.")
        return Query(query, documents, kept)

    def says_nothing(self, document: str) -> bool:
        """Return whether a document is empty or holds no token that the model knows."""
        if is_empty(document):
            return True
        if document.isascii() and any(map(str.isalnum, document)):  # every vocabulary has tokens for it
            return False
        unknown = find_unknown(document, self.tokenizer)
        return unknown is not None and unknown.all_unknown

    def texts(self, item: Query, o: Any) -> Sequence[NamedText]:
        return [NamedText("query", item.text), *(NamedText(f"document {n}", item.documents[n]) for n in item.kept)]

    def rank(self, item: Query, scores: Sequence[float], o: TextRankingOptions) -> Any:
        """Return the documents that are kept, whose scores are given, best first."""
        order = sorted(range(len(scores)), key=lambda index: -scores[index])[: o.top_k]
        rows = []
        for index in order:
            number = item.kept[index]
            text = {"text": item.documents[number]} if o.return_documents else {}
            rows.append({"corpus_id": number, "score": scores[index], **text})
        left = [str(number) for number in range(len(item.documents)) if number not in item.kept]
        if not left:
            return rows
        return WithNotices(rows, [f"left out, since they say nothing to the model: documents {', '.join(left)}"])


class TextRanking(RankingPipeline, EmbeddingPipeline):
    """Ranks documents by the similarity of their embeddings to the query's."""

    def preprocess(self, items: Sequence[Query], o: TextRankingOptions) -> list[Preprocessed]:
        return [self.encode_sentences([item.text, *item.kept_documents], o.truncation) for item in items]

    def postprocess(
        self, item: Query, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: TextRankingOptions
    ) -> Any:
        return self.rank(item, self.similarity_to_first(outputs), o)


@dataclass(frozen=True, kw_only=True)
class EmbeddedZeroShotOptions(ZeroShotOptions):
    """Options of zero-shot-classification by sentence embeddings.

    Args:
        hypothesis_template: a sentence with `{}` in the place of the label.
    """

    hypothesis_template: str = TEMPLATE


class EmbeddedZeroShot(ZeroShotPipeline, EmbeddingPipeline):
    """Chooses the label whose sentence is most similar to the text.

    Probabilities are a softmax of cosines times `SCALE`, the training objective of such encoders (Henderson et al.,
    2017, arXiv:1705.00652). With multi_label, or for a single label, the score is the cosine, at least 0.
    """

    Options: ClassVar[type[PipelineOptions]] = EmbeddedZeroShotOptions

    def preprocess(self, items: Sequence[str], o: ZeroShotOptions) -> list[Preprocessed]:
        sentences = [o.hypothesis(label) for label in o.labels]
        return [self.encode_sentences([text, *sentences], truncation=True) for text in items]

    def postprocess(
        self, item: str, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: ZeroShotOptions
    ) -> dict[str, Any]:
        scores = torch.tensor(self.similarity_to_first(outputs))
        return self.rank_labels(item, scores.clamp(0, 1) if o.alone else (SCALE * scores).softmax(-1), o)


class CrossRanking(RankingPipeline):
    """Ranks documents with a classifier that reads each document together with the query."""

    auto = "AutoModelForSequenceClassification"

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

    def preprocess(self, items: Sequence[Query], o: TextRankingOptions) -> list[Preprocessed]:
        return [
            join_inputs(self.encode([(item.text, document) for document in item.kept_documents], o.truncation))
            for item in items
        ]

    def postprocess(
        self, item: Query, inputs: Sequence[ModelInput], outputs: Sequence[Tensor], o: TextRankingOptions
    ) -> Any:
        scores = self.encoder.activation_fn(torch.stack(list(outputs)))[:, 0].tolist() if outputs else []
        return self.rank(item, scores, o)


def query_and_documents(item: Any) -> list[str]:
    """Return the query, then the documents. Raises InvalidInput."""
    names = {"query": ("query", "source_sentence"), "documents": ("documents", "texts", "sentences")}
    given = item if isinstance(item, Mapping) else {}
    query, documents = (next((given[n] for n in all_ if n in given), None) for all_ in names.values())
    if query is None or documents is None:
        raise InvalidInput('must be {"query": "...", "documents": ["...", ...]}.')
    return [text_of(query, "query"), *list_texts(documents, "document")]


def list_texts(texts: Any, what: str) -> list[str]:
    """Return one text or several as a list. Raises InvalidInput."""
    if isinstance(texts, str):
        return [texts]
    if not isinstance(texts, (list, tuple)):
        raise InvalidInput(f"must have a list of {what}s, not {type(texts).__name__}.")
    return [text_of(text, what) for text in texts]
