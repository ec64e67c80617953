"""summarization in the mode "extractive": sentences of the text itself, chosen by a sentence encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..answers import WithNotices
from ..base import PipelineOptions
from ..generation_base import GenerationPipeline
from ..similarity import EmbeddingPipeline
from ..splitting import Span, split_sections, split_sentences
from ..streaming_batcher import ModelInput, Preprocessed
from .hard_wraps import join_wrapped_lines
from .length import SummaryLength, count_words, cut_words, ends_sentence
from .pipeline import SummaryOptions, SummaryPipeline

RELEVANCE = 0.8  # of similarity to the document in a sentence's score; the rest is its distance to those chosen
SECTION_TOKENS = 256  # of a section that is embedded whole, if the encoder sets no limit
LEAST_WORDS = 4  # of a sentence; shorter ones are headings and exclamations


class ExtractiveSummarization(SummaryPipeline, EmbeddingPipeline):
    """Returns the sentences of a text whose embeddings are most similar to that of the whole text.

    They are chosen by maximal marginal relevance (Carbonell and Goldstein, 1998), so that none repeats another, and
    stand in the order of the text. A text that the encoder cannot read whole is embedded as the mean of its sections.
    """

    Options: ClassVar[type[PipelineOptions]] = SummaryOptions

    def length(self, o: SummaryOptions) -> SummaryLength:
        """Return the length that a call asks for, which is one sentence by default."""
        return SummaryLength(1) if o.length.is_open else o.length

    def validate(self, item: Any, o: SummaryOptions) -> str:
        return join_wrapped_lines(super().validate(item, o))

    def preprocess(self, items: Sequence[str], o: SummaryOptions) -> list[Preprocessed]:
        return [self.encode_document(text, o) for text in items]

    def encode_document(self, text: str, o: SummaryOptions) -> Preprocessed:
        """Return one model input for each sentence, then one for each section; none if the text is short enough."""
        spans = split_sentences(text)
        if self.length(o).holds(text) or len(spans) < 2:
            return []
        sentences = [text[start:end] for start, end in spans]
        most = max((self.encoder.max_seq_length or SECTION_TOKENS) - 8, 8)
        sections = split_sections(text, most, self.count_tokens)
        return self.encode_sentences([*sentences, *sections], truncation=True)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in self.tokenizer.encode_ids(texts, special=False)]

    def postprocess(self, item: str, inputs: Sequence[ModelInput], outputs: Sequence[Tensor], o: SummaryOptions) -> Any:
        if not inputs:
            return self.short_answer(item) if self.length(o).holds(item) else self.cut_answer(item, o)
        spans = split_sentences(item)
        vectors = torch.nn.functional.normalize(torch.stack(list(outputs)).float(), dim=-1)  # (texts, width)
        relevance, similarity = scores(vectors[: len(spans)], vectors[len(spans) :])
        chosen = choose(item, spans, relevance, similarity, self.length(o))
        if not chosen:
            best = int(relevance.argmax())
            return self.cut_answer(item[slice(*spans[best])], o)
        return [{"summary_text": " ".join(" ".join(item[slice(*spans[n])].split()) for n in sorted(chosen))}]

    def cut_answer(self, sentence: str, o: SummaryOptions) -> Any:
        """Return a sentence, cut if it has more words than the summary may have."""
        most = self.length(o).max_words
        if most is None or count_words(sentence) <= most:
            return [{"summary_text": " ".join(sentence.split())}]
        return WithNotices(
            [{"summary_text": cut_words(sentence, most)}], [f"no sentence has at most {most} words; one was cut"]
        )

    def format_list(self, answers: list[Any], o: Any) -> Any:
        return GenerationPipeline.format_list(self, answers, o)  # type: ignore[arg-type]


def scores(sentences: Tensor, sections: Tensor) -> tuple[Tensor, Tensor]:
    """Return the similarity of sentences (sentences, width) to the document, and to each other."""
    document = torch.nn.functional.normalize(sections.mean(0), dim=-1)
    return sentences @ document, sentences @ sentences.T


def choose(text: str, spans: Sequence[Span], relevance: Tensor, similarity: Tensor, length: SummaryLength) -> list[int]:
    """Return the numbers of the sentences of a summary; none if no sentence is short enough."""
    words = [count_words(text[start:end]) for start, end in spans]
    proper = [n for n, (a, b) in enumerate(spans) if words[n] >= LEAST_WORDS and ends_sentence(text[a:b])]
    left, chosen = proper or list(range(len(spans))), list[int]()
    room = length.max_words

    def marginal(number: int) -> float:
        nearest = max((float(similarity[number, other]) for other in chosen), default=0.0)
        return RELEVANCE * float(relevance[number]) - (1 - RELEVANCE) * nearest

    while length.sentences is None or len(chosen) < length.sentences:
        left = [n for n in left if room is None or words[n] <= room]
        if not left:
            break
        best = max(left, key=marginal)
        chosen.append(best)
        left.remove(best)
        room = None if room is None else room - words[best]
    return chosen
