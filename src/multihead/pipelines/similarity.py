"""sentence-similarity, text-ranking, and zero-shot-classification by sentence embeddings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import InvalidInput, MultiheadError
from ..sentences.base import tokenize
from ..sentences.cross import CrossEncoder
from ..sentences.encoder import SentenceEncoder
from ..token_batches import check_room
from ..tokenizers.tokenizer import Tokenizer
from .base import ForwardPipeline, PipelineOptions, text_of, token_types_of
from .streaming_batcher import ModelInput, Preprocessed, join_inputs
from .zero_shot import ZeroShotOptions, ZeroShotPipeline

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


class EmbeddingPipeline(ForwardPipeline):
    """Base of pipelines that compare sentence embeddings.

    Args:
        model: a `SentenceEncoder`. Any other model compares the means of its hidden states by their cosine.
    """

    def __init__(self, model: Any, tokenizer: Tokenizer, name: str, **options: Any) -> None:
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
        result = self.encoder.model.run([each.ids for each in inputs], token_types_of(inputs))
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

    def preprocess(self, items: Sequence[list[str]], o: SentenceSimilarityOptions) -> list[Preprocessed]:
        return [self.encode_sentences(texts, o.truncation) for texts in items]

    def postprocess(
        self, item: Any, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: SentenceSimilarityOptions
    ) -> list[float]:
        return self.similarity_to_first(outputs)


class TextRanking(EmbeddingPipeline):
    """Ranks documents by the similarity of their embeddings to the query's: `[{"corpus_id", "score", "text"}]`."""

    Options: ClassVar[type[PipelineOptions]] = TextRankingOptions

    def validate(self, item: Any, o: TextRankingOptions) -> list[str]:
        return query_and_documents(item)

    def preprocess(self, items: Sequence[list[str]], o: TextRankingOptions) -> list[Preprocessed]:
        return [self.encode_sentences(texts, o.truncation) for texts in items]

    def postprocess(
        self, item: list[str], inputs: Sequence[ModelInput], outputs: Sequence[Any], o: TextRankingOptions
    ) -> Any:
        return rank_documents(item[1:], self.similarity_to_first(outputs), o)


class EmbeddedZeroShot(ZeroShotPipeline, EmbeddingPipeline):
    """Chooses the label whose sentence is most similar to the text.

    Probabilities are a softmax of cosines times `SCALE`, the training objective of such encoders (Henderson et al.,
    2017, arXiv:1705.00652). With multi_label, the score of a label is its cosine, at least 0.
    """

    def preprocess(self, items: Sequence[str], o: ZeroShotOptions) -> list[Preprocessed]:
        sentences = [o.hypothesis_template.format(label) for label in o.labels]
        return [self.encode_sentences([text, *sentences], truncation=True) for text in items]

    def postprocess(
        self, item: str, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: ZeroShotOptions
    ) -> dict[str, Any]:
        scores = torch.tensor(self.similarity_to_first(outputs))
        return self.rank_labels(item, scores.clamp(0, 1) if o.multi_label else (SCALE * scores).softmax(-1), o)


class CrossRanking(ForwardPipeline):
    """Ranks documents with a classifier that reads each document together with the query."""

    auto = "AutoModelForSequenceClassification"
    Options: ClassVar[type[PipelineOptions]] = TextRankingOptions

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

    def validate(self, item: Any, o: TextRankingOptions) -> list[str]:
        return query_and_documents(item)

    def preprocess(self, items: Sequence[list[str]], o: TextRankingOptions) -> list[Preprocessed]:
        return [
            join_inputs(self.encode([(query, document) for document in documents], o.truncation))
            for query, *documents in items
        ]

    def postprocess(
        self, item: list[str], inputs: Sequence[ModelInput], outputs: Sequence[Tensor], o: TextRankingOptions
    ) -> Any:
        scores = self.encoder.activation_fn(torch.stack(list(outputs)))[:, 0].tolist() if outputs else []
        return rank_documents(item[1:], scores, o)


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


def rank_documents(documents: Sequence[str], scores: Sequence[float], o: TextRankingOptions) -> list[dict[str, Any]]:
    """Return documents with their scores, best first."""
    order = sorted(range(len(documents)), key=lambda number: -scores[number])[: o.top_k]
    texts = [{"text": documents[number]} if o.return_documents else {} for number in order]
    return [{"corpus_id": n, "score": scores[n], **text} for n, text in zip(order, texts, strict=True)]
