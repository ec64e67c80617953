"""retrieval-augmented-generation: answers from documents, with quotations (Lewis et al., 2020, arXiv:2005.11401)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ...errors import InvalidInput, MultiheadError
from ...sentences.encoder import SentenceEncoder
from ..answers import WithNotices
from ..base import Pipeline, PipelineOptions, text_of
from ..encoders import AUTO, EncoderSlot
from ..streaming_batcher import ModelInput, Preprocessed, join_inputs
from .documents import DocumentStore, Passage, state_of
from .pipeline import QuestionAnswering, QuestionAnsweringOptions
from .prompted import GeneratedAnswersOptions, PromptedAnswers, locate_answer

PASSAGES = 8  # default passages that are read for a question
READ = 3  # of them by a language model
STORES = 4  # sets of documents that a pipeline keeps
SIMILARITY_WEIGHT = 15.0  # of a passage's similarity beside the log-odds of its span
# Probability that an answer is right: logistic in the log-odds of the span and the similarity of its passage. Fitted
# for the default models on five articles of XQuAD, with and without the article among the documents
# (benchmarks/recipes.py rag).
ODDS_WEIGHT, SIMILARITY_SLOPE, OFFSET = 0.545, 5.12, -5.57
LEAST = 0.15  # default probability from which an answer is given: 90 % of those without an answer are declined there
LEAST_SIMILARITY = 0.4  # of the best passage, for a language model
NO_ANSWER = "The documents hold no answer that is likely enough ({:.2f}; min_score is {})."


@dataclass(frozen=True, kw_only=True)
class RetrievalOptions(PipelineOptions):
    """Options of answers from documents.

    Args:
        documents: a list of texts, of mappings with "text" and perhaps "id" or "title", or of paths; a file of rows; a
            folder of text files. They are embedded once.
        retriever: the sentence encoder, or its name. "auto" is the default model of sentence-similarity.
        reranker: a `CrossEncoder` or a text-ranking pipeline that orders the passages found; None for none.
        passages: passages that are read for a question.
        min_score: an answer of a lower score is not given. 0 always answers.
    """

    documents: Any = None
    retriever: Any = AUTO
    reranker: Any = None
    passages: int = PASSAGES
    min_score: float | None = None

    def check(self) -> None:
        super().check()
        if isinstance(self.passages, bool) or not isinstance(self.passages, int) or self.passages < 1:
            raise InvalidInput(f"passages is a whole number from 1, not {self.passages!r}.")
        least = self.min_score
        if least is not None and (
            isinstance(least, bool) or not isinstance(least, (int, float)) or not 0 <= least <= 1
        ):
            raise InvalidInput(f"min_score is a number from 0 to 1, not {self.min_score!r}.")
        if self.retriever is None:
            raise InvalidInput("retriever is a sentence encoder or its name; answers from documents need one.")


@dataclass(frozen=True, kw_only=True)
class PromptedRetrievalOptions(RetrievalOptions, GeneratedAnswersOptions):
    """Options of answers from documents by a language model: those of retrieval and of generation."""

    passages: int = READ


@dataclass
class DocumentQuestion:
    """A question with the documents that answer it, and the passages found."""

    question: str
    documents: Any
    passages: list[Passage] = field(default_factory=list)
    windows: list[int] = field(default_factory=list)  # number of model inputs of each passage


class DocumentPipeline(Pipeline):
    """Base of pipelines that answer from documents: `{"answer", "score", "sources"}`.

    A source is `{"document", "start", "end", "text", "score"}`: the text at these characters of the document, verbatim.
    Without a likely answer, "answer" is "" and "sources" is empty.
    """

    Options: ClassVar[type[PipelineOptions]] = RetrievalOptions

    def __init__(self, model: Any, tokenizer: Any, name: str, **options: Any) -> None:
        self.encoder = EncoderSlot()
        self.stores: list[tuple[Any, SentenceEncoder, DocumentStore]] = []
        super().__init__(model, tokenizer, name, **options)

    def __call__(self, inputs: Any = None, question: Any = None, **options: Any) -> Any:
        """Answer one question or several.

        Args:
            inputs: questions, or `{"question", "documents"}`. question: instead of inputs.

        Raises:
            InvalidInput: no question, or no documents.
        """
        return super().__call__(question if inputs is None else inputs, **options)

    def validate(self, item: Any, o: Any) -> DocumentQuestion:
        given = item if isinstance(item, Mapping) else {"question": item}
        question = text_of(given.get("question"), "question")
        if not question.strip():
            raise InvalidInput("must have a question that is not empty.")
        documents = given.get("documents", o.documents)
        if documents is None:
            raise InvalidInput('must have documents: pass documents=..., or {"question": ..., "documents": [...]}.')
        return DocumentQuestion(question, documents)

    def store(self, documents: Any, o: Any) -> DocumentStore:
        """Return the passages of documents; the last few sets are kept. Raises InvalidInput."""
        if isinstance(documents, DocumentStore):
            return documents
        encoder = self.encoder.get(o.retriever, self.device)
        assert encoder is not None
        state = state_of(documents)
        for known, used, store in self.stores:
            if used is encoder and known == state:
                return store
        store = DocumentStore(state if isinstance(state, list) else documents, encoder)
        self.stores = [*self.stores[1 - STORES :], (state, encoder, store)]
        return store

    def retrieve(self, items: Sequence[DocumentQuestion], o: Any) -> list[MultiheadError | None]:
        """Set the passages of each item. Returns the error of each item, or None."""
        errors: list[MultiheadError | None] = []
        stores: dict[int, DocumentStore] = {}  # questions of one call most often share their documents
        for item in items:
            try:
                key = id(item.documents)
                if key not in stores:
                    stores[key] = self.store(item.documents, o)
                item.passages = stores[key].search([item.question], o.passages, o.reranker)[0]
                errors.append(None)
            except InvalidInput as error:
                errors.append(InvalidInput(f"has documents or a question that cannot be searched: {error}"))
        return errors


class ExtractiveAnswers(DocumentPipeline, QuestionAnswering):
    """Answers with a span of a passage, found by a question-answering head."""

    Options: ClassVar[type[PipelineOptions]] = RetrievalOptions
    span_options = QuestionAnsweringOptions(passage_weight=0.0, max_answer_len=20)

    def resolve_options(self, **options: Any) -> Any:
        return Pipeline.resolve_options(self, **options)

    def validate(self, item: Any, o: Any) -> Any:
        return DocumentPipeline.validate(self, item, o)

    def preprocess(self, items: Sequence[Any], o: Any) -> list[Preprocessed]:
        found: list[Preprocessed] = []
        for item, error in zip(items, self.retrieve(items, o), strict=True):
            if error is not None:
                found.append(error)
                continue
            pairs = [(item.question, passage.text) for passage in item.passages]
            windows = QuestionAnswering.preprocess(self, pairs, self.span_options)
            item.windows = [0 if isinstance(own, MultiheadError) else len(own) for own in windows]
            found.append(join_inputs(windows))
        return found

    def postprocess(self, item: Any, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: Any) -> Any:
        found = self.candidates(item, inputs, outputs)
        best = max(found, key=lambda each: each.rank, default=None)
        least = LEAST if o.min_score is None else o.min_score
        if best is None or best.score < least:
            score = 0.0 if best is None else best.score
            return WithNotices({"answer": "", "score": 1 - score, "sources": []}, [NO_ANSWER.format(score, least)])
        others = [each for each in found if each is not best and each.answer.casefold() == best.answer.casefold()]
        sources = [each.quote() for each in [best, *sorted(others, key=lambda each: -each.rank)]]
        return {"answer": best.answer, "score": best.score, "sources": sources}

    def candidates(
        self, item: DocumentQuestion, inputs: Sequence[ModelInput], outputs: Sequence[Any]
    ) -> list[Candidate]:
        """Return the best span of each passage."""
        found, first = [], 0
        for passage, count in zip(item.passages, item.windows, strict=True):
            here = slice(first, first + count)
            first += count
            encodings = [each.note for each in inputs[here]]
            spans = self.find_spans((item.question, passage.text), encodings, outputs[here], self.span_options)
            if spans.spans:
                best = spans.spans[0]
                found.append(Candidate(passage, best.start, best.end, best.score - spans.null))
        return found

    def format_list(self, answers: list[Any], o: Any) -> Any:
        return answers


@dataclass(frozen=True)
class Candidate:
    """Span of a passage that may answer a question.

    Args:
        odds: log-score of the span less that of no answer.
    """

    passage: Passage
    start: int
    end: int
    odds: float

    @property
    def answer(self) -> str:
        return self.passage.text[self.start : self.end]

    @property
    def rank(self) -> float:
        """Log-odds that are compared between passages."""
        return self.odds + SIMILARITY_WEIGHT * self.passage.score

    @property
    def score(self) -> float:
        """Probability that the span is the answer."""
        value = ODDS_WEIGHT * self.odds + SIMILARITY_SLOPE * self.passage.score + OFFSET
        return 1 / (1 + math.exp(-max(min(value, 500.0), -500.0)))

    def quote(self) -> dict[str, Any]:
        """Return the source of the span."""
        return self.passage.quote(self.start, self.end, self.score)


class GeneratedFromDocuments(DocumentPipeline, PromptedAnswers):
    """Answers that a language model writes after reading passages. What no passage says verbatim has a notice."""

    Options: ClassVar[type[PipelineOptions]] = PromptedRetrievalOptions

    def validate(self, item: Any, o: Any) -> Any:
        return DocumentPipeline.validate(self, item, o)

    def preprocess(self, items: Sequence[Any], o: Any) -> list[Preprocessed]:
        found: list[Preprocessed] = []
        least = LEAST_SIMILARITY if o.min_score is None else o.min_score
        for item, error in zip(items, self.retrieve(items, o), strict=True):
            if error is not None:
                found.append(error)
            elif item.passages[0].score < least:
                found.append([])
            else:
                context = "\n".join(" ".join(passage.text.split()) for passage in item.passages)
                found += PromptedAnswers.preprocess(self, [(item.question, context)], o)
        return found

    def forward(self, inputs: Sequence[ModelInput], o: Any) -> list[Any]:
        return super().forward(inputs, o) if inputs else []

    def postprocess(self, item: Any, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: Any) -> Any:
        best = item.passages[0].score
        least = LEAST_SIMILARITY if o.min_score is None else o.min_score
        if not inputs:
            return WithNotices({"answer": "", "score": 1 - best, "sources": []}, [NO_ANSWER.format(best, least)])
        text, sources = self.decode(outputs[0][0], o), []
        for passage in item.passages:
            place = locate_answer(text, passage.text)
            if "start" in place:
                sources.append(passage.quote(place["start"], place["end"], passage.score))
        answer = locate_answer(text, "")["answer"]
        record = {"answer": answer, "score": best, "sources": sources}
        if sources:
            return record
        return WithNotices(record, [f"No passage says {answer!r}: the model wrote it without a source."])

    def format_list(self, answers: list[Any], o: Any) -> Any:
        return answers
